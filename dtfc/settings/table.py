"""Every setting, once.

Rules of this file: a setting is one field of :class:`Settings`; its name in
flags and files is the field's name with hyphens. Flags, the configuration
file, the sample configuration and the operator's documentation are all made
from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from dtfc.settings import values
from dtfc.settings.declaring import Setting, declared, derived, optional, setting, several, switch
from dtfc.settings.values import Grant, Network, Verb

LISTEN = "Where to listen"
STORE = "The store"
PEERS = "Peers"
REPLICAS = "Copies on other nodes"
ACCESS = "Who may do what"
LIMITS = "Limits"
MEDIA = "What media files are"
PROCESS = "The process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force: frozen; a reload makes new ones.

    Sizes are in bytes, durations in seconds, rates in bytes a second, and
    paths absolute. :attr:`port` is ``None`` where only endpoints are listened on.
    """

    # --- Where to listen
    port: int | None = setting(
        LISTEN,
        "PORT",
        values.integer(0, 65535),
        "8080",
        "TCP port; 0 takes a free one and logs it. With --listen, only bound if it is given too.",
        short="p",
    )
    interface: str | None = optional(
        LISTEN,
        "ADDRESS",
        values.address,
        "Listen with --port on this address only.",
        default_note="every address, IPv4 and IPv6",
    )
    listen: tuple[str, ...] = several(
        LISTEN,
        "ENDPOINT",
        values.endpoint,
        "Twisted endpoint string to listen on instead of --port: tcp:, tcp6:, ssl:, unix:, "
        "systemd:. May be given several times.",
    )

    # --- The store
    basedir: str = derived(
        STORE,
        "DIR",
        values.text,
        "Folder of the store; made if it is missing.",
        path=True,
        short="b",
        default_note="$STATE_DIRECTORY, else $XDG_DATA_HOME/dtfc, else ~/.local/share/dtfc",
    )
    temp: str | None = optional(
        STORE,
        "DIR",
        values.text,
        "Folder for uploads that are not complete; must be on the store's file system.",
        path=True,
        default_note="inside the store",
    )
    provider: str = setting(
        STORE, "NAME", values.provider, "fs", "Where the bytes are kept; fs is a folder."
    )
    fan_out: int | None = optional(
        STORE,
        "LEVELS",
        values.fan_out,
        "Folders a blob lies deep in a new store: 64 as in 2015, or 2. A store remembers its own.",
        default_note="64 for a new store",
    )
    reserve: int = setting(
        STORE,
        "SIZE",
        values.size(0),
        "64MiB",
        "Free space that is kept back: a body that would eat into it is refused (507).",
        reloadable=True,
    )
    partial_ttl: float = setting(
        STORE,
        "TIME",
        values.duration(1),
        "7d",
        "How long what is left of a load that was cut off waits to be resumed.",
        reloadable=True,
    )
    upload_ttl: float = setting(
        STORE,
        "TIME",
        values.duration(1),
        "24h",
        "How long an upload that resumes waits for its next byte, and what became of it can be "
        "asked.",
        reloadable=True,
    )
    verify: str = setting(
        STORE,
        "MODE",
        values.one_of("chunk", "whole", "off"),
        "chunk",
        "What is verified before a byte leaves: the MiB that holds it, the whole blob, or "
        "nothing. What is in memory and was verified is not verified again.",
        reloadable=True,
    )
    scrub_rate: int = setting(
        STORE,
        "RATE",
        values.rate_or_none,
        "20MiB/s",
        "How fast the store is read to find damage before somebody asks for it; a tenth of it "
        "while the node is busy. 0 does not scrub.",
        reloadable=True,
    )
    scrub_period: float = setting(
        STORE,
        "TIME",
        values.duration(60),
        "30d",
        "From the beginning of one scrub to that of the next.",
        reloadable=True,
    )
    quarantine_retry: float = setting(
        STORE,
        "TIME",
        values.duration(1),
        "5m",
        "How often the peers are asked for what lies in quarantine.",
        reloadable=True,
    )
    disk_threads: int = setting(
        STORE, "N", values.integer(1, 256), "8", "Threads that read and write the store."
    )

    # --- Peers
    peerlist: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "The peers: one http://host:port/ a line, or dns+srv://_dtfc._tcp.example for those that "
        "DNS names; # comments; re-read when it changes.",
        path=True,
        reloadable=True,
        default_note="no peers",
    )
    me: str | None = optional(
        PEERS,
        "URL",
        values.node_url,
        "This node's own URL, as it stands in the peer list; it never asks itself.",
        reloadable=True,
    )
    melist: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "A file whose first line is this node's own URL; --me goes before it.",
        path=True,
        reloadable=True,
    )
    zone: str | None = optional(
        PEERS,
        "NAME",
        values.zone,
        "Where this node stands: peers whose line in the list has the same zone= are asked first.",
        reloadable=True,
    )
    peerlist_poll: float = setting(
        PEERS,
        "TIME",
        values.duration(0.1),
        "5s",
        "How often the peer list's file is looked at for changes.",
        reloadable=True,
    )
    peer_timeout: float = setting(
        PEERS,
        "TIME",
        values.duration(),
        "10s",
        "How long a peer may take to connect and to send the head of its answer.",
        reloadable=True,
    )
    peer_stall: float = setting(
        PEERS,
        "TIME",
        values.duration(),
        "15s",
        "How long a peer may send nothing before the next is asked.",
        reloadable=True,
    )
    peer_rate: int = setting(
        PEERS,
        "RATE",
        values.rate,
        "1KiB/s",
        "The lowest rate, over 30 seconds, at which a peer is worth waiting for.",
        reloadable=True,
    )
    peer_networks: tuple[Network, ...] = several(
        PEERS,
        "NETWORKS",
        values.networks,
        "The only networks (addresses or CIDR) in which peers are connected to. Without it all but "
        "link-local, multicast and clouds' own addresses, and loopback under another's name.",
        reloadable=True,
    )
    peer_secret_file: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "Secrets that the nodes share, one a line: the first signs requests to peers, each is "
        "accepted. At least 32 characters; no file that others may read.",
        path=True,
        reloadable=True,
        default_note="requests to peers are not signed",
    )
    peer_ca: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "Authorities (PEM) of peers alone: whoever shows a certificate of theirs at an ssl: "
        "endpoint is a peer, as if it had signed. Read again on SIGHUP.",
        path=True,
        default_note="nobody is known by a certificate",
    )
    peer_cert: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "The certificate (PEM) that this node shows to https peers.",
        path=True,
        reloadable=True,
        default_note="it shows none",
    )
    peer_key: str | None = optional(
        PEERS,
        "FILE",
        values.text,
        "Its key (PEM); no file that others may read.",
        path=True,
        reloadable=True,
    )
    peer_clock_skew: float = setting(
        PEERS,
        "TIME",
        values.duration(1),
        "3h",
        "How far a peer's clock may be from this node's for its signature to count.",
        reloadable=True,
    )
    peer_hedge: float = setting(
        PEERS,
        "TIME",
        values.duration(0.01),
        "500ms",
        "How long a peer may say nothing before the next one is asked for the same, too.",
        reloadable=True,
    )
    peer_requests: int = setting(
        PEERS,
        "N",
        values.integer(1, 10_000),
        "32",
        "The most requests of loads at once to one peer; further ones wait.",
        reloadable=True,
    )
    peer_receivers: int = setting(
        PEERS,
        "N",
        values.integer(0, 10_000),
        "2",
        "To how many nodes one blob of more than 4 MiB is sent at once, by each process; others "
        "ask those. 0 for any number. Clients do not count.",
        reloadable=True,
    )
    absent_ttl: float = setting(
        PEERS,
        "TIME",
        values.duration(0),
        "5s",
        "How long it is remembered that no peer has a blob; 0 asks them each time.",
        reloadable=True,
    )
    absent_max: int = setting(
        PEERS,
        "N",
        values.integer(1, 10_000_000),
        "10000",
        "How many absent blobs are remembered; the oldest are forgotten first.",
        reloadable=True,
    )
    finish_load: float = setting(
        PEERS,
        "SHARE",
        values.share,
        "0.5",
        "The share of a blob, 0 to 1, from which on its load is finished although nobody waits "
        "for it any more.",
    )
    max_loads: int = setting(
        PEERS,
        "N",
        values.integer(1, 10_000),
        "64",
        "How many blobs are loaded from peers at once; further ones wait.",
        reloadable=True,
    )

    load_requests: int = setting(
        PEERS,
        "N",
        values.integer(1, 64),
        "4",
        "The most requests at once for one load, to as many peers as have the blob.",
        reloadable=True,
    )
    load_requests_per_peer: int = setting(
        PEERS,
        "N",
        values.integer(1, 64),
        "2",
        "How many of these may go to one peer: a second one where a client waits for a part.",
        reloadable=True,
    )
    loading_ranges: str = setting(
        PEERS,
        "TRUST",
        values.one_of("map", "digest"),
        "map",
        "What the end of a part waits for while its blob is loaded: that its chunks are as the "
        "chunk maps of the peers say, or the digest of the whole.",
        reloadable=True,
    )
    metalink: str = setting(
        PEERS,
        "WHOM",
        values.one_of("off", "public", "all"),
        "public",
        "Which of the peers that have a blob are named to clients, in Link fields and in .meta4: "
        "those that everybody can reach, or all. off: nothing of it is answered.",
        reloadable=True,
    )
    accept_deletions: str = setting(
        PEERS,
        "ON",
        values.one_of("on", "off"),
        "on",
        "Whether what is deleted everywhere on a peer is deleted here: on or off. Only peers that "
        "may write here are heard at all.",
        reloadable=True,
    )
    peer_deletions: int = setting(
        PEERS,
        "N",
        values.integer(1, 10_000_000),
        "6000",
        "How many deletions a minute are taken from peers, by each process; further ones come "
        "later (429).",
        reloadable=True,
    )
    deletion_ttl: float = setting(
        PEERS,
        "TIME",
        values.duration(60),
        "90d",
        "How long the receipt of a deletion everywhere is kept, and peers that are away are told "
        "of it. What was deleted stays deleted longer than that.",
        reloadable=True,
    )
    reconcile_period: float = setting(
        PEERS,
        "TIME",
        values.duration(1),
        "10m",
        "How often what is remembered of deletions is compared with each peer, give or take a "
        "quarter; at start, and when a peer comes back, it is done at once.",
        reloadable=True,
    )

    # --- Copies on other nodes
    replicas: int = setting(
        REPLICAS,
        "N",
        values.integer(1, 100),
        "1",
        "Copies of each new blob in all, the one here included: N-1 peers get one.",
        reloadable=True,
    )
    write_quorum: int = setting(
        REPLICAS,
        "W",
        values.integer(1, 100),
        "1",
        "How many of them are durable before a client is answered, the one here included.",
        reloadable=True,
    )
    quorum_timeout: float = setting(
        REPLICAS,
        "TIME",
        values.duration(0.1),
        "10s",
        "How long a client waits for that; then it is told that there are too few (503), and the "
        "copies are made all the same.",
        reloadable=True,
    )
    replica_filter: str | None = optional(
        REPLICAS,
        "FILE",
        values.text,
        "Of which blobs copies are made: include and exclude rules, the first that matches.",
        path=True,
        reloadable=True,
        default_note="of all",
    )
    replica_queue: int = setting(
        REPLICAS,
        "N",
        values.integer(1, 100_000_000),
        "1000000",
        "The most blobs that may lack copies; then PUT and POST are refused (503).",
        reloadable=True,
    )
    replica_patience: float = setting(
        REPLICAS,
        "TIME",
        values.duration(0),
        "10m",
        "How long a peer may be down before another one gets the copies meant for it.",
        reloadable=True,
    )
    replica_retry: float = setting(
        REPLICAS,
        "TIME",
        values.duration(1),
        "10m",
        "After how long a copy that every peer refused is offered again.",
        reloadable=True,
    )
    replica_rate: int | None = setting(
        REPLICAS,
        "RATE",
        values.or_none(values.rate),
        "none",
        "How fast copies leave in all; with --workers, each has an equal part of it.",
        reloadable=True,
    )
    replica_peer_rate: int | None = setting(
        REPLICAS,
        "RATE",
        values.or_none(values.rate),
        "none",
        "The same, to one peer.",
        reloadable=True,
    )
    replica_copies: int = setting(
        REPLICAS,
        "N",
        values.integer(1, 1000),
        "16",
        "The most copies on their way at once, from each process; each holds some 2 MiB.",
        reloadable=True,
    )
    replica_peer_copies: int = setting(
        REPLICAS,
        "N",
        values.integer(1, 1000),
        "4",
        "The same, to one peer.",
        reloadable=True,
    )

    # --- Who may do what
    deny: str | None = optional(
        ACCESS,
        "PREFIX",
        values.text,
        "While the file PREFIXput exists, PUT is denied; likewise get, head and delete.",
        path=True,
        reloadable=True,
    )
    allow_anonymous: tuple[Verb, ...] = several(
        ACCESS,
        "VERBS",
        values.verbs,
        "Verbs that any address may use, such as put,delete. Reads are open without it, unless "
        "--private is given; the others are taken from this machine, from peers that sign, and "
        "from who has a token.",
        reloadable=True,
    )
    private: bool = switch(
        ACCESS,
        "Reads are not open either: they take a token, or a peer's signature, except from this "
        "machine.",
        reloadable=True,
    )
    tokens: str | None = optional(
        ACCESS,
        "FILE",
        values.text,
        "Bearer tokens, one a line: a name, the SHA-256 of the token, its verbs, and perhaps "
        "digests=, names= and expires=. dtfc token new makes one.",
        path=True,
        reloadable=True,
        default_note="there are none",
    )
    url_secret_file: str | None = optional(
        ACCESS,
        "FILE",
        values.text,
        "Secrets that URLs are signed with (dtfc sign), one a line: the first signs, each is "
        "accepted. At least 32 characters; no file that others may read.",
        path=True,
        reloadable=True,
        default_note="no URL is taken for signed",
    )
    couchdb: str | None = optional(
        ACCESS,
        "URL",
        values.origin,
        "A CouchDB that says who somebody is, by session cookie, Basic or JSON Web Token.",
        reloadable=True,
        default_note="no CouchDB is asked",
    )
    couchdb_db: tuple[str, ...] = several(
        ACCESS,
        "DATABASE",
        values.database,
        "A database of --couchdb to follow: which blobs its documents refer to. May be given "
        "several times.",
    )
    couchdb_user_file: str | None = optional(
        ACCESS,
        "FILE",
        values.text,
        "The node's own user of CouchDB, who may read the databases that it follows: one line, "
        "name:password, in no file that others may read.",
        path=True,
        default_note="the databases are read as anybody",
    )
    couchdb_user_auth: str = setting(
        ACCESS,
        "HOW",
        values.one_of("basic", "cookie", "proxy", "proxy-sha1"),
        "basic",
        "How the node proves to be the user of --couchdb-user-file: by password with each request, "
        "by a session that it opens, or by the secret that CouchDB shares with proxies, which then "
        "stands for the password (proxy-sha1: of a CouchDB before 3.3).",
    )
    couchdb_catalog: str | None = optional(
        ACCESS,
        "DATABASE",
        lambda given: values.database(given)[0],
        "A database of --couchdb that has the names of all sites' blobs, and that CouchDB "
        "replicates. The node's own user writes to it.",
        default_note="names are known where they are given",
    )
    couchdb_prefetch: str = setting(
        ACCESS,
        "WHICH",
        values.text,
        "none",
        "all|none|FILE: which documents of followed databases have their blobs loaded from peers "
        "at once. FILE is a JSON object with a selector for each database, and one for the others "
        "under *.",
        path=True,
        words=("all", "none"),
    )
    couchdb_prefetch_jobs: int = setting(
        ACCESS,
        "N",
        values.integer(1, 1000),
        "2",
        "How many blobs --couchdb-prefetch loads at once; fewer than --max-loads.",
    )
    couchdb_prefetch_max_size: int | None = optional(
        ACCESS,
        "SIZE",
        values.size(),
        "The largest blob that --couchdb-prefetch loads.",
        default_note="any",
    )
    couchdb_grant: tuple[Grant, ...] = several(
        ACCESS,
        "ROLE=VERBS",
        values.grant,
        "What a role of CouchDB's users may do, such as editors=get,put; * is every user with a "
        "name. May be given several times; without it: _admin=get,put,delete and *=get.",
        reloadable=True,
    )
    couchdb_read: str = setting(
        ACCESS,
        "HOW",
        values.one_of("role", "document"),
        "role",
        "With document, *=get lets a user read only what a document refers to that he can read: "
        "?db=DATABASE&doc=DOCUMENT.",
        reloadable=True,
    )
    couchdb_cache: float = setting(
        ACCESS,
        "TIME",
        values.at_most(60, values.duration(0)),
        "60s",
        "How long CouchDB's answer is believed, a minute at most.",
        reloadable=True,
    )
    couchdb_timeout: float = setting(
        ACCESS,
        "TIME",
        values.duration(),
        "5s",
        "How long CouchDB may take to answer (503).",
    )
    couchdb_failures: int = setting(
        ACCESS,
        "N",
        values.integer(1, 1000),
        "3",
        "Wrong passwords of one address in five minutes after which CouchDB is not asked for it "
        "(429); twenty sessions that have expired count as one. CouchDB locks a name out after "
        "five.",
        reloadable=True,
    )
    couchdb_max_document: int = setting(
        ACCESS,
        "SIZE",
        values.size(1024),
        "1MiB",
        "The largest document that is read to see what it refers to (413).",
        reloadable=True,
    )
    purge_untracked: float | None = optional(
        ACCESS,
        "TIME",
        values.duration(),
        "Collect blobs that no document of a --couchdb-db has referred to for so long. Only time "
        "counts in which every database was followed. The first pass only reports.",
        default_note="nothing is collected",
    )
    purge_dry_run: bool = switch(
        ACCESS, "Collect nothing, only report what --purge-untracked would collect."
    )
    purge_period: float = setting(
        ACCESS,
        "TIME",
        values.duration(),
        "1h",
        "Between two passes of the collector.",
    )
    purge_verify: float = setting(
        ACCESS,
        "TIME",
        values.duration(0),
        "1d",
        "Before anything is collected, all databases are read from their beginning, but no more "
        "often than this.",
    )
    undelete: float = setting(
        ACCESS,
        "TIME",
        values.duration(0),
        "7d",
        "How long a blob that was collected can come back (dtfc undelete).",
    )
    host: tuple[str, ...] = several(
        ACCESS,
        "NAME",
        values.host,
        "Names under which this node answers, as Host has them, with or without the port; under "
        "others it says 421. May be given several times.",
        reloadable=True,
    )
    require_https: str | None = optional(
        ACCESS,
        "URL",
        values.https_origin,
        "Where this node is to be found over https. What comes in clear, from elsewhere or by the "
        "word of a trusted proxy (X-Forwarded-Proto), is sent there (308); writes are refused.",
        reloadable=True,
        default_note="requests in clear are taken",
    )
    cors_origin: tuple[str, ...] = several(
        ACCESS,
        "ORIGIN",
        values.cors_origin,
        "Sites whose pages may read here, such as https://app.example, and write with a token; * "
        "lets all read. May be given several times.",
        reloadable=True,
    )
    trusted_proxies: tuple[Network, ...] = several(
        ACCESS,
        "NETWORKS",
        values.networks,
        "Proxies (addresses or CIDR networks) whose word on the client's address is believed.",
        reloadable=True,
    )

    # --- Limits
    max_body: int | None = setting(
        LIMITS,
        "SIZE",
        values.or_none(values.size()),
        "none",
        "The largest body that is taken (413); none leaves the disk as the limit.",
        reloadable=True,
    )
    max_head: int = setting(
        LIMITS,
        "SIZE",
        values.size(1024),
        "16KiB",
        "The largest request line and header section (431).",
        reloadable=True,
    )
    max_request_line: int = setting(
        LIMITS,
        "SIZE",
        values.size(512),
        "8KiB",
        "The longest request line (414).",
        reloadable=True,
    )
    max_fields: int = setting(
        LIMITS,
        "N",
        values.integer(10, 10_000),
        "100",
        "The most header fields in a request (431).",
        reloadable=True,
    )
    max_ranges: int = setting(
        LIMITS,
        "N",
        values.integer(1, 1000),
        "16",
        "The most ranges in one answer, after those that touch are joined; else all is sent (200).",
        reloadable=True,
    )
    max_connections: int = setting(
        LIMITS,
        "N",
        values.integer(1, 1_000_000),
        "1000",
        "The most connections at once; further ones wait to be accepted.",
        reloadable=True,
    )
    max_connections_per_address: int | None = setting(
        LIMITS,
        "N",
        values.or_none(values.integer(1, 1_000_000)),
        "none",
        "The most connections at once from one address; further ones are closed.",
        reloadable=True,
    )
    requests_per_address: float | None = setting(
        LIMITS,
        "TIMES",
        values.or_none(values.per_second),
        "none",
        "How many requests one address may make, such as 20/s or 600/m; further ones are refused "
        "(429). An IPv6 address counts with its /64.",
        reloadable=True,
    )
    requests_per_token: float | None = setting(
        LIMITS,
        "TIMES",
        values.or_none(values.per_second),
        "none",
        "The same for one token, CouchDB user, or all signed URLs of one address.",
        reloadable=True,
    )
    request_burst: int = setting(
        LIMITS,
        "N",
        values.integer(1, 1_000_000),
        "20",
        "How many requests may come at once after a rest, under either of them.",
        reloadable=True,
    )
    rate_per_address: int | None = setting(
        LIMITS,
        "RATE",
        values.or_none(values.rate),
        "none",
        "How fast bodies go to and come from one address, all its connections together: evenly.",
        reloadable=True,
    )
    rate_per_token: int | None = setting(
        LIMITS,
        "RATE",
        values.or_none(values.rate),
        "none",
        "The same for one token, CouchDB user, or all signed URLs of one address.",
        reloadable=True,
    )
    uploads_per_principal: int = setting(
        LIMITS,
        "N",
        values.integer(1, 1_000_000),
        "256",
        "The most uploads at once of one token or user, or of one address that brings neither; "
        "further ones are refused (429).",
        reloadable=True,
    )
    max_open_uploads: int = setting(
        LIMITS,
        "N",
        values.integer(1, 1_000_000),
        "1000",
        "The most uploads that resume open at once in the node; further ones are refused (503).",
        reloadable=True,
    )
    hot_blobs: int = setting(
        LIMITS,
        "N",
        values.integer(0, 100_000),
        "128",
        "The most blobs that are kept open to be answered for at once; three open files each.",
        reloadable=True,
    )
    header_timeout: float = setting(
        LIMITS,
        "TIME",
        values.duration(),
        "10s",
        "How long a request's header section may take in all (408).",
        reloadable=True,
    )
    idle_timeout: float = setting(
        LIMITS,
        "TIME",
        values.duration(),
        "60s",
        "How long a connection may rest between two requests before it is closed.",
        reloadable=True,
    )
    body_rate: int = setting(
        LIMITS,
        "RATE",
        values.rate,
        "1KiB/s",
        "The lowest rate at which a body may come (408).",
        reloadable=True,
    )
    body_grace: float = setting(
        LIMITS,
        "TIME",
        values.duration(),
        "20s",
        "How long a body may be slower than --body-rate.",
        reloadable=True,
    )
    write_stall: float = setting(
        LIMITS,
        "TIME",
        values.duration(),
        "30s",
        "How long a client may take nothing of an answer before it is cut off.",
        reloadable=True,
    )
    send_rate: int = setting(
        LIMITS,
        "RATE",
        values.rate,
        "1KiB/s",
        "The lowest rate at which a client may take an answer, over --write-stall.",
        reloadable=True,
    )
    linger_timeout: float = setting(
        LIMITS,
        "TIME",
        values.duration(),
        "5s",
        "How long a refused request's body is read and dropped, so that the refusal arrives.",
        reloadable=True,
    )
    max_age: float = setting(
        LIMITS,
        "TIME",
        values.duration(0),
        "365d",
        "How long caches may keep a blob (Cache-Control: max-age).",
        reloadable=True,
    )

    # --- What media files are
    ffprobe: str | None = setting(
        MEDIA,
        "PROGRAM",
        values.or_none(values.text),
        "ffprobe",
        "Says for GET /<sha512>/ffmetadata what a media file is; a name that is looked for in "
        "PATH, or a path. none switches it off (501).",
        reloadable=True,
    )
    ffprobe_processes: int = setting(
        MEDIA,
        "N",
        values.integer(1, 2),
        "2",
        "How many of them may run at once, in each process; further ones wait.",
        reloadable=True,
    )
    ffprobe_queue: int = setting(
        MEDIA,
        "N",
        values.integer(0, 10_000),
        "32",
        "How many blobs may wait for it; further ones are refused (503).",
        reloadable=True,
    )
    ffprobe_timeout: float = setting(
        MEDIA,
        "TIME",
        values.at_most(60, values.duration(0.1)),
        "5s",
        "How long it may take, by the clock and by the processor's, before it is killed (503).",
        reloadable=True,
    )
    ffprobe_memory: int = setting(
        MEDIA,
        "SIZE",
        values.size(64 * 1024 * 1024),
        "1GiB",
        "How much address space it may have.",
        reloadable=True,
    )

    # --- The process
    config: str | None = optional(
        PROCESS,
        "FILE",
        values.text,
        "Configuration file (TOML) with these same names; flags go before it.",
        path=True,
        in_file=False,
        short="c",
    )
    check_config: bool = switch(
        PROCESS,
        "Say what is wrong with flags and configuration file, and end: 0 if nothing is, else 2.",
        in_file=False,
    )
    workers: int = setting(
        PROCESS,
        "N",
        values.integer(1, 256),
        "1",
        "Processes that serve; from 2 on a parent starts them and replaces those that die.",
    )
    log: str | None = optional(
        PROCESS,
        "FILE",
        values.text,
        "File for the access log and for messages; opened anew on SIGHUP and SIGUSR1.",
        path=True,
        default_note="twistd's own log",
    )
    log_format: str = setting(
        PROCESS,
        "FORMAT",
        values.one_of("combined", "json"),
        "combined",
        "Form of the access log: combined (as Apache and nginx write it) or json.",
    )
    audit_log: str | None = optional(
        PROCESS,
        "FILE",
        values.text,
        "File for a line of JSON on each write, deletion and refusal, opened anew as --log is; - "
        "for standard output.",
        path=True,
        default_note="they are in the access log alone",
    )
    drain_notice: float = setting(
        PROCESS,
        "TIME",
        values.duration(0),
        "0s",
        "How long /readyz says no, after the first SIGTERM, before connections are refused.",
        reloadable=True,
    )
    drain_timeout: float = setting(
        PROCESS,
        "TIME",
        values.duration(0),
        "30s",
        "How long what is in flight may go on after the first SIGTERM.",
        reloadable=True,
    )
    drain_idle: float = setting(
        PROCESS,
        "TIME",
        values.duration(0),
        "1s",
        "How long a connection on which nothing is asked may still ask after the first SIGTERM; "
        "it is answered, and then closed.",
        reloadable=True,
    )
    handover_timeout: float = setting(
        PROCESS,
        "TIME",
        values.duration(0),
        "1h",
        "How long what is in flight may go on after SIGUSR2, when a new process serves already.",
        reloadable=True,
    )
    uid: str | None = optional(
        PROCESS,
        "USER",
        values.text,
        "User (name or number) to become once the ports are bound; the same as twistd's --uid.",
        short="u",
    )
    gid: str | None = optional(
        PROCESS,
        "GROUP",
        values.text,
        "Group to become; the same as twistd's --gid.",
        short="g",
        default_note="the user's own group",
    )
    allow_root: bool = switch(
        PROCESS,
        "Run as root although nothing here needs it.",
    )


TABLE: tuple[Setting, ...] = declared(Settings)
BY_NAME: dict[str, Setting] = {each.name: each for each in TABLE}
