// What the node says of itself, put into the page.
//
// Each part is drawn anew only when it has changed, so that a reader of the screen, or somebody
// who is just selecting a digest, is left in peace.

import { bar, byId, make, put, say, table } from "./dom.js";
import { amount, many, moment, pace, percent, short, span, speed, spell } from "./format.js";

const drawn = new Map();

/** Draw a part of the page, if what it shows is another than the last time. */
function part(id, facts, nodes) {
    const text = JSON.stringify(facts);
    if (drawn.get(id) === text) return;
    drawn.set(id, text);
    put(byId(id), ...nodes());
}

export function forgetDrawn() {
    drawn.clear();
}

/** Show all of `/status.json`. */
export function show(told) {
    tiles(told);
    moving(told);
    peers(told);
    disk(told.store);
    care(told);
    couchdb(told.couchdb);
    problems(told);
}

function tiles({ node, store, peers, rates }) {
    say(byId("version"), node.version);
    say(byId("who"), node.url ?? `node ${node.id.slice(0, 12)}`);
    say(byId("store-trouble"), store.trouble ? `The store cannot be read: ${store.trouble}` : "");
    if (!store.trouble) {
        say(byId("fact-blobs"), spell(store.blobs));
        say(byId("fact-quarantine"), store.quarantine ? `${spell(store.quarantine)} damaged, put aside` : "none damaged");
        say(byId("fact-bytes"), amount(store.bytes));
        say(byId("fact-average"), store.blobs ? `${amount(store.bytes / store.blobs)} on average` : "nothing yet");
        say(byId("fact-free"), amount(store.free_bytes));
        const low = store.free_bytes < 2 * store.reserve_bytes || store.free_bytes < 0.05 * store.total_bytes;
        say(byId("fact-reserve"), `${low ? "low: " : ""}of ${amount(store.total_bytes)}`);
    }
    const well = peers.filter((each) => stateOf(each)[0] !== "bad").length;
    say(byId("fact-peers"), peers.length ? `${well} of ${peers.length} well` : "none");
    say(byId("fact-peers-more"), peers.length === well ? (peers.length ? "all well" : "this node is alone") : `${peers.length - well} in trouble`);
    const last = rates.samples.at(-1);
    if (last) say(byId("fact-requests"), `${pace(last[1])}/s`);
    say(byId("fact-connections"), many(node.connections, "connection"));
    say(byId("fact-uptime"), span(node.uptime_seconds));
    const crew = node.workers > 1 ? `${node.workers_serving} of ${node.workers} workers serve` : "one process";
    say(byId("fact-workers"), crew);
}

const empty = (text) => make("p", { class: "quiet empty", text });

function moving({ loads, uploads, downloads, spool, node }) {
    part("moving", [loads, uploads, downloads, spool, node.workers], () => {
        const groups = [
            group("From peers", loads, (each) => [
                each.elsewhere ? "another process loads it" : Object.values(each.peers).length ? `from ${each.peers.map((peer) => peer.url).join(", ")}` : "asking peers",
                each.waiting ? many(each.waiting, "client waits", "clients wait") : "nobody waits",
            ]),
            group("Being stored", uploads, (each) => [rateOf(each)], "a part of an upload"),
            group("Being fetched", downloads, (each) => [rateOf(each)]),
        ].filter(Boolean);
        if (!groups.length) groups.push(empty("Nothing moves at the moment."));
        if (spool.uploads > 0) {
            const open = many(spool.uploads, "upload is not complete", "uploads are not complete");
            groups.push(empty(`${open}; ${amount(spool.bytes)} have come.`));
        }
        if (node.workers > 1) groups.push(empty("Of the process that answered; the charts are of all of them."));
        return groups;
    });
}

function rateOf(transfer) {
    const rate = transfer.seconds > 0 ? transfer.done / transfer.seconds : 0;
    const left = transfer.length !== null && rate > 0 ? (transfer.length - transfer.done) / rate : null;
    return left === null ? speed(rate) : `${speed(rate)}, ${span(left)} left`;
}

function group(title, { running, largest }, more, nameless = "without a name") {
    if (!running) return null;
    const rows = largest.map((each) => {
        const name = each.name ?? (each.sha512 ? short(each.sha512) : nameless);
        const known = each.length !== null;
        const done = known ? `${percent(each.done, each.length)} %, ${amount(each.done)} of ${amount(each.length)}` : amount(each.done);
        return make(
            "li",
            {},
            make("div", { class: "line-up" }, make("strong", { class: "name", text: name, title: each.sha512 }), make("span", { class: "quiet", text: done })),
            known ? bar(each.done, each.length, `${name}: ${done}`) : null,
            make("p", { class: "quiet words", text: more(each).join(" · ") }),
        );
    });
    const others = running - largest.length;
    return make(
        "div",
        { class: "group" },
        make("h3", { text: `${title} (${spell(running)})` }),
        make("ul", { class: "list" }, ...rows),
        others > 0 ? empty(`and ${spell(others)} smaller`) : null,
    );
}

/** The mood of a peer, and its state in words. */
function stateOf(peer) {
    const rests = peer.rests_for > 0 ? `, rests for ${span(peer.rests_for)}` : "";
    switch (peer.state) {
        case "fine":
            return ["fine", "well"];
        case "failed":
            return ["bad", `not reached${rests}`];
        case "lied":
            return ["bad", `sent wrong bytes${rests}`];
        default:
            // It was asked, and has never answered.
            return peer.failures && peer.first_byte === null ? ["bad", "not reached so far"] : ["idle", "not asked lately"];
    }
}

function badge(mood, text) {
    return make("span", { class: "badge small", "data-mood": mood }, make("span", { class: "mark", "aria-hidden": "true" }), make("span", { text }));
}

function peers({ peers, deletions }) {
    const owed = new Map((deletions?.peers ?? []).map((each) => [each.url, each.pending]));
    part("peers", [peers, [...owed]], () => {
        if (!peers.length) return [empty("No peers are listed. What is absent here is absent.")];
        const rows = peers.map((each) => {
            return [
                each.zone ? `${each.url} (${each.zone})` : each.url,
                badge(...stateOf(each)),
                each.first_byte === null ? "–" : `${(1000 * each.first_byte).toFixed(each.first_byte < 0.1 ? 1 : 0)} ms`,
                each.rate === null ? "–" : speed(each.rate),
                amount(each.received),
                each.lies ? `${spell(each.failures)}, and ${many(each.lies, "lie")}` : spell(each.failures),
                owed.has(each.url) ? spell(owed.get(each.url)) : "0",
            ];
        });
        const heads = ["Peer", "State", "First byte", "Speed", "Received", "Failures", "Deletions owed"];
        return [table("Peers and how they are", heads, rows)];
    });
}

function disk(store) {
    part("disk", store, () => {
        if (store.trouble) return [empty(store.trouble)];
        const { total_bytes: total, free_bytes: free, reserve_bytes: reserve, bytes } = store;
        const usable = Math.max(0, free - reserve);
        const kept = Math.min(reserve, free);
        const used = Math.max(0, total - free);
        const own = Math.min(bytes, used);
        const parts = [
            ["own", "blobs of this node", own],
            ["other", "other things", used - own],
            ["usable", "free for new blobs", usable],
            ["reserve", "kept back (reserve)", kept],
        ];
        const line = make("div", { class: "stack", "aria-hidden": "true" });
        for (const [kind, , size] of parts) {
            const piece = make("span", { class: kind });
            piece.style.flexGrow = String(total ? size / total : 0);
            line.append(piece);
        }
        const legend = make(
            "ul",
            { class: "legend tall" },
            ...parts.map(([kind, words, size]) =>
                make("li", {}, make("span", { class: `chip ${kind}`, "aria-hidden": "true" }), make("span", { text: words }), make("strong", { text: amount(size) })),
            ),
        );
        return [line, legend];
    });
}

function facts(pairs) {
    return make("dl", { class: "pairs" }, ...pairs.filter(Boolean).map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
}

function care({ scrub, deletions, replicas, store, node }) {
    // To the minute: what changes with each look would be drawn with each look.
    const now = Math.floor(node.now / 60);
    part("care", [scrub, deletions, replicas, store.quarantine, now], () => [
        facts([
            ["Scrub", scrubWords(scrub, store, node.now)],
            scrub && !scrub.trouble && ["Found damaged by it", spell(scrub.corrupt)],
            ["In quarantine", spell(store.quarantine ?? 0)],
            ["Deletions that peers have not confirmed", deletions?.trouble ?? spell(deletions?.pending ?? 0)],
            replicas && ["Blobs that lack copies", replicas.queue ? `${spell(replicas.queue)}, the oldest for ${span(replicas.oldest_seconds)}${replicas.stuck ? `; nobody takes ${spell(replicas.stuck)}` : ""}` : "none"],
        ]),
    ]);
}

function scrubWords(scrub, store, now) {
    if (!scrub) return "off";
    if (scrub.trouble) return scrub.trouble;
    if (scrub.under_way) {
        const part = store.bytes ? `, ${percent(scrub.bytes, store.bytes)} %` : "";
        return `under way${part}: ${amount(scrub.bytes)} in ${many(scrub.blobs, "blob")}`;
    }
    return scrub.ended ? `all was read ${span(now - scrub.ended)} ago (${many(scrub.blobs, "blob")})` : "not begun yet";
}

function couchdb(told) {
    byId("couchdb-card").hidden = !told;
    if (!told) return;
    part("couchdb", told, () => {
        if (told.trouble) return [empty(told.trouble)];
        const rows = told.databases.map((each) => [
            each.database,
            badge(each.trouble ? "bad" : each.complete ? "fine" : "idle", each.trouble ?? (each.complete ? "up to date" : `${each.state}: not read to its end yet`)),
            each.seconds_since_heard === null ? "–" : `${span(each.seconds_since_heard)} ago`,
        ]);
        return [
            table("Databases that are followed", ["Database", "State", "Heard last"], rows),
            facts([
                told.prefetch_waiting !== null && ["Blobs still to be loaded", spell(told.prefetch_waiting)],
                told.publish_waiting !== null && ["Names still to be published", spell(told.publish_waiting)],
            ]),
        ];
    });
}

function problems({ problems, problems_withheld: why }) {
    part("problems", [problems, why], () => {
        if (!problems) return [empty(`The log is shown only to whoever may store files here. ${why ?? ""}`)];
        if (!problems.length) return [empty("Nothing has gone wrong since this process was started.")];
        return [
            make(
                "ol",
                { class: "list problems" },
                ...problems.map((each) =>
                    make(
                        "li",
                        {},
                        badge(each.level === "warn" ? "warn" : "bad", each.level === "warn" ? "warning" : "error"),
                        make("time", { class: "quiet", datetime: new Date(each.at * 1000).toISOString(), text: moment(each.at) }),
                        each.times > 1 ? make("span", { class: "quiet", text: `${spell(each.times)} times` }) : null,
                        make("p", { text: each.text }),
                    ),
                ),
            ),
        ];
    });
}
