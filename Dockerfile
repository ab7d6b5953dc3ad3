# The pilot's image: starter, pilot, wrapper and the tools they call.
#
#   make image                       builds wheels on the host, then this
#   docker build --build-arg BASE=... --build-arg USER=10001 .
#
# Two stages, so that compilers, pip's caches and Docker's daemon stay out.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv docker.io
COPY build/wheels /wheels
RUN python3 -m venv /opt/pilot \
 && /opt/pilot/bin/pip install -q --no-index --find-links=/wheels rubin-panda-pilot \
 && /opt/pilot/bin/pip uninstall -q -y pip setuptools

FROM ${BASE}
# bash, curl: wrapper.sh. procps, lsb: what people look for in `kubectl exec`.
# voms-clients, xrootd-client: grid sites. tini: reaps, forwards signals.
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    bash ca-certificates curl procps python3 tini voms-clients xrootd-client \
 && rm -rf /var/lib/apt/lists/*
# The client alone: payload scripts call `docker run` over the host's socket.
COPY --from=build /usr/bin/docker /usr/local/bin/docker
COPY --from=build /opt/pilot /opt/pilot
ENV PATH=/opt/pilot/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 LANG=C.UTF-8 TZ=UTC
# Root by default, because a shared Docker socket needs it; any other user does
# where payloads are plain processes or pods of their own.
ARG USER=0
USER ${USER}
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/tini", "--", "pilot-starter"]
