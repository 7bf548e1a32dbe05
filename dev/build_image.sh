#!/usr/bin/env bash
# Build the image of the Dockerfile with docker, podman or buildah, and try it.
#
#   dev/build_image.sh [--builder docker|podman|buildah] [--tag NAME] [--base IMAGE | --debootstrap]
#                      [--ca-bundle FILE] [--no-try] [-- MORE BUILD OPTIONS]
#
# --base IMAGE     instead of the Dockerfile's own: any with Python 3.10 to 3.14 and its venv module
# --debootstrap    make the base from Debian's packages, without a registry; needs root and
#                  debootstrap. buildah does so by itself where it cannot pull the Dockerfile's base
# --ca-bundle FILE certificates that pip is to trust while building (a company's proxy); by default
#                  those of PIP_CERT
# --no-try         do not run the image afterwards
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST and the *_PROXY variables are handed on to
# the build where they are set, and leave no trace in the image.
#
# buildah needs neither a daemon nor user namespaces (chroot isolation, vfs storage), so that this
# also runs inside of a container or a virtual machine, as root.

set -euo pipefail
cd "$(dirname "$0")/.."

builder='' tag='' base='' debootstrap='' ca=${PIP_CERT:-} try=yes
while (($#)); do
    case $1 in
        --builder) builder=$2; shift 2 ;;
        --tag) tag=$2; shift 2 ;;
        --base) base=$2; shift 2 ;;
        --debootstrap) debootstrap=yes; shift ;;
        --ca-bundle) ca=$2; shift 2 ;;
        --no-try) try=''; shift ;;
        --) shift; break ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "unknown option $1, see --help" >&2; exit 2 ;;
    esac
done

# Docker needs its daemon, and BuildKit for the Dockerfile's mounts.
is_usable() {
    command -v "$1" >/dev/null || return 1
    [[ $1 != docker ]] || { docker info && docker buildx version; } &>/dev/null
}
if [[ -z $builder ]]; then
    for builder in docker podman buildah none; do
        if is_usable "$builder"; then break; fi
    done
fi
if ! command -v "$builder" >/dev/null; then
    echo "none of docker (running, with buildx), podman and buildah is here" \
        "(Debian: apt-get install buildah)" >&2
    exit 3
fi

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' projects/libra_umop/__init__.py)
tag=${tag:-libra-umop:$version}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "== $*"; }
run() { echo "\$ $*"; "$@"; }

buildah_options=(--storage-driver "${BUILDAH_STORAGE_DRIVER:-vfs}")
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

# A Debian root folder with Python as an image, for builders that reach no registry.
make_debian_base() {
    local release=bookworm rootfs=$work/rootfs inspect=("$builder" image inspect)
    base=localhost/libra-umop-base:$release
    [[ $builder != buildah ]] || inspect=(buildah "${buildah_options[@]}" inspect --type image)
    if "${inspect[@]}" "$base" &>/dev/null; then
        say "using $base, made earlier"
        return
    fi
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed" >&2; exit 3; }
    say "making the base image from Debian $release"
    debootstrap --variant=minbase --include=ca-certificates,python3-venv "$release" "$rootfs" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/debootstrap.log" \
        || { tail "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/*
    mkdir "$work/context"
    tar -C "$rootfs" -cf "$work/context/rootfs.tar" .
    rm -rf "$rootfs"
    printf 'FROM scratch\nADD rootfs.tar /\n' >"$work/context/Dockerfile"
    if [[ $builder == buildah ]]; then
        buildah "${buildah_options[@]}" build --quiet --tag "$base" "$work/context" >/dev/null
    else
        "$builder" build --quiet --tag "$base" "$work/context" >/dev/null
    fi
    rm -rf "$work/context"
}
if [[ -z $base$debootstrap && $builder == buildah ]]; then
    wanted=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
    if ! buildah "${buildah_options[@]}" pull --quiet "$wanted" >/dev/null; then
        say "$wanted cannot be pulled"
        debootstrap=yes
    fi
fi
[[ -z $debootstrap ]] || make_debian_base

options=(--tag "$tag" --build-arg "VERSION=$version")
options+=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
options+=(--build-arg "CREATED=$(date --utc +%Y-%m-%dT%H:%M:%SZ)")
[[ -z $base ]] || options+=(--build-arg "BASE_IMAGE=$base")
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST {HTTP,HTTPS,NO}_PROXY; do
    [[ -z ${!name:-} ]] || options+=(--build-arg "$name=${!name}")
done
if [[ -n $ca ]]; then
    options+=(--secret "id=ca,src=$(realpath "$ca")" --build-arg PIP_CERT=/run/secrets/ca.crt)
fi

say "building $tag with $builder"
started=$SECONDS
if [[ $builder == buildah ]]; then
    buildah "${buildah_options[@]}" build "${options[@]}" "$@" .
else
    "$builder" build "${options[@]}" "$@" .
fi
say "built in $((SECONDS - started)) s"
[[ $try ]] || exit 0

# All in one container, as the image's own user.
check=$(cat <<'EOF'
set -eu
config=configs/quick/libra_faster_rcnn_R_18_FPN_shapes.yaml
echo "user $(id -u), $(python --version)"
python -c 'import torch; print("torch", torch.__version__)'
test "$(id -u)" != 0
for tool in cc gcc g++ clang ld make; do
    if command -v "$tool"; then echo "a compiler is in the image" >&2; exit 1; fi
done
python train_net.py --help 2>output/help.log | head -n 3
python tools/make_shapes.py --output output/shapes --num-train 40 --num-val 8
echo "== the first 20 iterations of the demo"
python train_net.py --config-file $config --dataset output/shapes \
    SOLVER.MAX_ITER 20 SOLVER.STEPS "()" OUTPUT_DIR output/demo >output/demo.log 2>&1 \
    || { tail -n 30 output/demo.log; exit 1; }
grep -E "iter: |Saving checkpoint" output/demo.log
echo "== SIGTERM while it trains"
python train_net.py --config-file $config --dataset output/shapes \
    SOLVER.MAX_ITER 100000 SOLVER.STEPS "()" OUTPUT_DIR output/stopped >output/stopped.log 2>&1 &
training=$!
until grep -qs "iter: " output/stopped.log; do
    kill -0 $training || { tail -n 30 output/stopped.log; exit 1; }
    sleep 0.5
done
kill -TERM $training
code=0
wait $training || code=$?
grep "SIGTERM" output/stopped.log
echo "exit code $code, last checkpoint $(cat output/stopped/last_checkpoint)"
test $code = 75
EOF
)
say "trying $tag"
if [[ $builder == buildah ]]; then
    container=$(buildah "${buildah_options[@]}" from --pull-never "$tag")
    code=0
    buildah "${buildah_options[@]}" run "$container" -- sh -c "$check" || code=$?
    buildah "${buildah_options[@]}" rm "$container" >/dev/null
    exit "$code"
fi
"$builder" run --rm --entrypoint sh "$tag" -c "$check"
