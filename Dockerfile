# A node in a container: as a user without rights, on a root file system that nobody
# can write.
#
#     docker build -t dtfc .
#     docker run -d --name dtfc --read-only --tmpfs /tmp --cap-drop ALL \
#         --security-opt no-new-privileges -v dtfc:/var/lib/dtfc -p 8080:8080 dtfc
#
# What stands behind the image's name are more flags; another configuration:
# -v /etc/dtfc:/etc/dtfc:ro. Writes are taken from the container itself alone until
# tokens or --allow-anonymous say otherwise. "docker stop -t 40" lets transfers finish
# (--drain-timeout is 30 s). The node heeds signals and waits for its own children, so
# it needs no init before it.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY setup.py setup.cfg README.md LICENSE ./
COPY dtfc dtfc/
COPY twisted twisted/
# twistd writes its plugin cache once, here: later it could not.
RUN python -m venv /opt/dtfc \
    && /opt/dtfc/bin/pip install --no-cache-dir --disable-pip-version-check . \
    && /opt/dtfc/bin/twistd --help > /dev/null

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 8080 dtfc \
    && useradd --system --uid 8080 --gid 8080 --home-dir /var/lib/dtfc --shell /usr/sbin/nologin dtfc \
    && install -d -m 0700 -o dtfc -g dtfc /var/lib/dtfc
COPY --from=build /opt/dtfc /opt/dtfc/
COPY etc/dtfc.toml /etc/dtfc/dtfc.toml
ENV PATH=/opt/dtfc/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/dtfc
USER 8080:8080
VOLUME /var/lib/dtfc
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["/opt/dtfc/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]
ENTRYPOINT ["/opt/dtfc/bin/twistd", "--nodaemon", "--pidfile=", "dtfc", "--config", "/etc/dtfc/dtfc.toml", "--log", "-"]
