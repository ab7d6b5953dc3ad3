# The pilot's image: starter, pilot, wrapper and the tools they call.
#
#   make image                       wheels on the host, then this; prints size, writes an SBOM
#   docker build --target pilot --build-arg BASE=... --build-arg USER=10001 .
#   docker build --target pilot-dockerd .       the same with a Docker daemon of its own
#
# Compilers, pip, its caches and Docker's daemon stay in the first stage.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv docker.io
# Other people's packages first: they change rarely, ours with every build.
COPY build/wheels/others /wheels/others
RUN python3 -m venv /opt/pilot \
 && /opt/pilot/bin/pip install -q --no-index --no-deps /wheels/others/*.whl
COPY build/wheels/ours /wheels/ours
RUN /opt/pilot/bin/pip install -q --no-index --no-deps /wheels/ours/*.whl \
 && /opt/pilot/bin/pip check \
 && /opt/pilot/bin/pip uninstall -q -y pip setuptools

FROM ${BASE} AS pilot
# bash, curl: wrapper.sh. procps: what people look for in `kubectl exec`.
# voms-clients, xrootd-client: grid sites. tini: reaps, forwards signals.
RUN printf 'path-exclude=/usr/share/%s/*\n' doc man locale >/etc/dpkg/dpkg.cfg.d/small \
 && apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    bash ca-certificates curl procps python3 tini voms-clients xrootd-client \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
# The client alone: payload scripts call `docker run` over the host's socket.
COPY --from=build /usr/bin/docker /usr/local/bin/docker
COPY --from=build /opt/pilot /opt/pilot
# Payload images in Google's registries: their token, for the SDK and for `docker run`.
COPY deploy/image/docker-credential-google /usr/local/bin/
COPY deploy/image/docker-config.json /etc/panda-pilot/docker/config.json
ENV PATH=/opt/pilot/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 LANG=C.UTF-8 TZ=UTC \
    DOCKER_CONFIG=/etc/panda-pilot/docker
# Root by default, because a shared Docker socket needs it; any other user does
# where payloads are plain processes.
ARG USER=0
USER ${USER}
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/tini", "--", "pilot-starter"]

# For deploy/job/own-docker.yaml; needs a privileged pod.
FROM pilot AS pilot-dockerd
USER 0
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker.io iptables \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /usr/local/bin/docker
ENV PATH=/opt/pilot/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY deploy/image/with-dockerd.sh /usr/local/bin/with-dockerd
ENTRYPOINT ["/usr/bin/tini", "--", "with-dockerd", "pilot-starter"]
