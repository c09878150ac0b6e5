"""Proof: the Debian package, from its build to its purge, in a fresh Debian."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial

from prove.booted import Booted, cgroups
from prove.figures import Row
from prove.roots import Root, missing
from prove.zygote import free_port

_SETUP = """
apt-get update -qq
apt-get install -qq -y --no-install-recommends /opt/dtfc.deb curl systemd procps >/dev/null
"""

_BEGIN = """
port={port}
not() {{ if "$@"; then exit 1; fi; }}
start() {{
    STATE_DIRECTORY=/var/lib/dtfc setpriv --reuid=dtfc --regid=dtfc --init-groups \\
        /usr/sbin/dtfc-daemon --config /etc/dtfc/dtfc.toml --port $port >> /tmp/log 2>&1 &
    pid=$!
}}
up() {{ i=0; until curl -sf -o /dev/null localhost:$port/readyz; do
    i=$((i + 1)); [ $i -lt 300 ] || {{ cat /tmp/log; exit 1; }}; sleep 0.2; done; }}
"""

_USE = """
[ "$(dtfc --version | cut -c1-5)" = "dtfc " ]
dtfc-daemon --config /etc/dtfc/dtfc.toml --check-config
for file in /usr/share/bash-completion/completions/dtfc /usr/share/zsh/vendor-completions/_dtfc \\
    /usr/share/fish/vendor_completions.d/dtfc.fish /lib/systemd/system/dtfc.service \\
    /lib/systemd/system/dtfc.socket /etc/logrotate.d/dtfc; do [ -s $file ]; done
for page in 1/dtfc.1 8/dtfc.8 8/dtfc-daemon.8 5/dtfc.conf.5; do
    grep -q "^path-exclude" /etc/dpkg/dpkg.cfg.d/* 2>/dev/null || [ -e /usr/share/man/man$page.gz ]
done
[ "$(stat -c '%U %a' /var/lib/dtfc)" = "dtfc 700" ]
start; up
head -c 2000000 /dev/urandom > /tmp/body
curl -sSf -T /tmp/body localhost:$port/body > /dev/null
digest=$(sha512sum < /tmp/body | cut -d' ' -f1)
curl -sSf localhost:$port/$digest | cmp - /tmp/body
kill -USR2 $pid; i=0
until ! kill -0 $pid 2>/dev/null; do i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.2; done
curl -sSf localhost:$port/$digest | cmp - /tmp/body
dtfc verify --config /etc/dtfc/dtfc.toml --basedir /var/lib/dtfc
not grep Traceback /tmp/log
not grep -i "plugin cache" /tmp/log
"""

_REMOVE = """
echo 'max-body = "1GiB"' >> /etc/dtfc/dtfc.toml
apt-get install -qq -y --reinstall /opt/dtfc.deb > /dev/null
grep -q '^max-body' /etc/dtfc/dtfc.toml
apt-get remove -qq -y dtfc > /dev/null
[ ! -e /usr/lib/dtfc ]
[ -e /etc/dtfc/dtfc.toml ]
[ -n "$(find /var/lib/dtfc -name data)" ]
apt-get purge -qq -y dtfc > /tmp/purged
grep -q "is kept" /tmp/purged
[ ! -e /etc/dtfc ]
[ -n "$(find /var/lib/dtfc -name data)" ]
"""

_PURGE = """
apt-get install -qq -y /opt/dtfc.deb > /dev/null
start; up
curl -sSf -T /tmp/body localhost:$port/body > /dev/null
kill $pid; wait $pid
su -s /bin/sh -c 'touch /var/lib/dtfc/PURGE' dtfc
apt-get purge -qq -y dtfc > /dev/null
[ -e /var/lib/dtfc ]
apt-get install -qq -y /opt/dtfc.deb > /dev/null
rm /var/lib/dtfc/PURGE; touch /var/lib/dtfc/PURGE
apt-get purge -qq -y dtfc > /dev/null
[ ! -e /var/lib/dtfc ]
not getent passwd dtfc
"""


# Under systemd, on the socket that it holds, and as "apt install" upgrades.
_SYSTEMD = """
port={port}
main() {{ systemctl show dtfc -p MainPID --value; }}
not() {{ if "$@"; then exit 1; fi; }}
another() {{ i=0; until [ "$(main)" != "$1" ] && [ "$(main)" != 0 ] \\
    && [ "$(systemctl is-active dtfc)" = active ]; do
    i=$((i + 1)); [ $i -lt 300 ] || {{ journalctl -u dtfc -n 50; exit 1; }}; sleep 0.2; done; }}
i=0; until curl -sf -o /dev/null localhost:$port/readyz; do
    i=$((i + 1)); [ $i -lt 300 ] || {{ systemctl status dtfc; exit 1; }}; sleep 0.2; done
[ "$(systemctl show dtfc -p User --value)" = dtfc ]
curl -sSf -T /opt/dtfc.deb localhost:$port/body > /dev/null
digest=$(sha512sum < /opt/dtfc.deb | cut -d' ' -f1)
( while [ ! -e /tmp/over ]; do curl -sSf -o /dev/null localhost:$port/$digest || exit 1; done ) &
asking=$!
old=$(main)
systemctl kill --kill-whom=main -s USR2 dtfc; another $old
systemctl reload dtfc
old=$(main)
dpkg -i /opt/dtfc.deb > /dev/null; another $old
old=$(main)
systemctl restart dtfc; another $old
touch /tmp/over
wait $asking
old=$(main)
kill -KILL $old; another $old
[ "$(systemctl show dtfc -p NRestarts --value)" = 1 ]
systemctl stop dtfc.socket dtfc
[ "$(systemctl is-failed dtfc)" != failed ]
not pgrep -f '^/usr/bin/python3'
journalctl -u dtfc > /tmp/journal
not grep -E "Traceback|plugin cache|not handed over" /tmp/journal
"""

_SOCKET = """
mkdir -p /etc/systemd/system/dtfc.socket.d
printf '[Socket]\\nListenStream=\\nListenStream={port}\\n' \\
    > /etc/systemd/system/dtfc.socket.d/port.conf
cp /etc/dtfc/dtfc.toml /opt/kept
echo 'listen = ["systemd:domain=INET6:index=0"]' >> /etc/dtfc/dtfc.toml
"""


def under_systemd(root: Root) -> None:
    """Run the installed service under systemd, which restarts, upgrades and revives it.

    Raises:
        RuntimeError: with what went wrong.
    """
    port = free_port()
    root.run(_SOCKET.format(port=port))
    booted = Booted(root, "dtfc.socket")
    try:
        booted.run(_SYSTEMD.format(port=port))
    finally:
        booted.end()
        root.run("cp /opt/kept /etc/dtfc/dtfc.toml")


def build() -> str:
    """Build the package; return its path."""
    made = subprocess.run(["make", "--silent", "deb"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr[-3000:])
    return max(glob.glob("dist/dtfc_*.deb"), key=os.path.getmtime)


def look_at(path: str) -> None:
    """Have lintian look at a package.

    Raises:
        RuntimeError: with what it finds.
    """
    lintian = shutil.which("lintian")
    if lintian is not None:
        told = subprocess.run(
            [lintian, "--allow-root", "--display-info", "--no-tag-display-limit", path],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode or told.stdout:
            raise RuntimeError(told.stdout[-3000:] + told.stderr[-1000:])


def prove(_seed: int, _share: float) -> list[Row]:
    """Build it, install it, use it, remove it, purge it."""
    why = missing() or ("" if shutil.which("dh") else "debhelper is not installed")
    if why:
        return [Row("the Debian package", "", 0, 0, skipped=why)]
    paths: list[str] = []
    rows = [_step("the Debian package is built", lambda: paths.append(build()))]
    if not paths:
        return rows
    found = "finds nothing" if shutil.which("lintian") else "is not installed"
    rows.append(_step(f"lintian {found}", lambda: look_at(paths[0])))
    folder = tempfile.mkdtemp(prefix="dtfc-debian-", dir="/var/tmp")
    try:
        root = Root(f"{folder}/root")
        shutil.copy(paths[0], f"{root.folder}/opt/dtfc.deb")
        begin = _BEGIN.format(port=free_port())
        steps = {
            "installed": _SETUP,
            "run as its service runs it, and handed over": begin + _USE,
        }
        rows += [
            _step(f"the Debian package is {name}", partial(root.run, script))
            for name, script in steps.items()
        ]
        name = "the Debian package's units under systemd"
        if cgroups():
            rows.append(_step(name, partial(under_systemd, root)))
        else:
            rows.append(Row(name, "", 0, 0, skipped="there is no cgroup2"))
        steps = {
            "removed and purged, with what is stored kept": _REMOVE,
            "purged with what is stored, when root says so": begin + _PURGE,
        }
        rows += [
            _step(f"the Debian package is {name}", partial(root.run, script))
            for name, script in steps.items()
        ]
    finally:
        shutil.rmtree(folder)
    return rows


def _step(name: str, act: Callable[[], object]) -> Row:
    begun = time.monotonic()
    wrong: list[str] = []
    try:
        act()
    except RuntimeError as error:
        wrong.append(str(error))
    return Row(name, "1", len(wrong), time.monotonic() - begun, None, wrong)
