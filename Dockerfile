# The image that trains on a cluster: `make image`, see deploy/README.md.
#
# Any base with Python 3.10 to 3.14 and its venv module will do. It needs no CUDA: PyPI's torch brings
# its own CUDA libraries, the driver comes from the host. Everything installs from wheels and pure
# Python packages, so there is no compiler here at any time.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ENV PATH=/opt/venv/bin:${PATH} \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PYTHONUNBUFFERED=1 \
    # What a GPU host's container runtime reads.
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    # All that is written outside OUTPUT_DIR goes to one folder that any user id may write to.
    HOME=/var/cache/libra-umop \
    FVCORE_CACHE=/var/cache/libra-umop/fvcore \
    TORCH_HOME=/var/cache/libra-umop/torch \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/libra-umop/inductor \
    TRITON_CACHE_DIR=/var/cache/libra-umop/triton \
    HF_HOME=/var/cache/libra-umop/huggingface \
    MPLCONFIGDIR=/var/cache/libra-umop/matplotlib \
    # Without an entry in /etc/passwd (an arbitrary user id) torch asks here for a name.
    USER=trainer

# No hyphen: pip takes a folder called name-version for a release and would cache what it builds.
WORKDIR /opt/libra_umop

# Dependencies, in layers that outlive every change of the sources. PIP_INDEX_URL and the like are
# build arguments so that they leave no trace; the secret is a certificate bundle for PIP_CERT.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ARG PIP_CACHE_DIR=/root/.cache/pip
ARG EXTRAS=backbones

COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv /opt/venv \
    && pip install --constraint constraints.txt torch torchvision

# pip reads what else is needed from setup.cfg; an empty package stands in for the sources.
COPY setup.cfg pyproject.toml LICENSE ./
COPY tools/install_detectron2.py tools/
COPY projects/libra_umop/__init__.py projects/libra_umop/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    touch README.md \
    && python tools/install_detectron2.py --cache /tmp/detectron2 \
    && pip install --constraint constraints.txt ".[${EXTRAS}]" \
    && pip uninstall --yes libra-umop \
    && rm -rf /tmp/detectron2 build projects

# The sources. They stay root's; only the two folders that a run writes to are everybody's.
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -rf build projects/*.egg-info \
    && install -d -m 1777 output /var/cache/libra-umop

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="libra-umop" \
      org.opencontainers.image.description="Balanced training for Detectron2: Libra R-CNN and UMOP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

ENV PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes' runAsNonRoot can check it.
USER 10001:10001
# Exec form: training itself is process 1 and gets the signals.
ENTRYPOINT ["python", "train_net.py"]
CMD ["--help"]
