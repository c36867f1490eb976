#!/usr/bin/env bash
# Starts Triton with one model: launch.sh trtllm|vllm|transformers|embedded [more flags of tritonserver].
# VISION_GATEWAY_TRITON_DRY_RUN=1 prints the command, one argument a line, in place of running it.
#
#   MODEL_REPOSITORY    folder of the models, /models by default
#   TRITON_ADMIN_KEY    value of the header `triton-grpc-protocol-admin` (gRPC) or `admin` (HTTP) that opens the
#                       interfaces for loading models and for shared memory; nobody has it by default
set -euo pipefail

usage="usage: ${0##*/} trtllm|vllm|transformers|embedded [more flags of tritonserver]"
engine=${1:?$usage}
shift

model=gemma4
config=config.pbtxt
command=(tritonserver)
case $engine in
  # Plain tritonserver cannot spawn TensorRT-LLM's workers (MPI_ERR_SPAWN).
  trtllm) command=(trtllm-llmapi-launch tritonserver) config=configs/trtllm.pbtxt ;;
  vllm) config=configs/vllm.pbtxt ;;
  transformers) ;;  # What config.pbtxt itself names.
  embedded) model=embedded ;;
  *) echo "$usage" >&2; exit 2 ;;
esac

repository=${MODEL_REPOSITORY:-/models}
if [[ ! -f $repository/$model/$config && -z ${VISION_GATEWAY_TRITON_DRY_RUN:-} ]]; then
  # Triton itself would take another engine's configuration without a word.
  echo "there is no $model/$config in $repository" >&2
  exit 1
fi

if [[ $(id -u) == 0 && -z ${VISION_GATEWAY_TRITON_DRY_RUN:-} ]]; then
  echo "refusing to run as root: start the container with --user 1000:1000" >&2
  exit 1
fi

admin_key=${TRITON_ADMIN_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
closed="model-repository,shared-memory,trace,logging:admin=$admin_key"

command+=(
  "--model-repository=$repository"
  # Only this model, whatever else lies in the folder; after a crash it can be unloaded and loaded again.
  --model-control-mode=explicit "--load-model=$model"
  # The configuration is the contract: nothing is guessed or added.
  --disable-auto-complete-config
  # Callers must not load code or map memory.
  "--grpc-restricted-protocol=$closed"
  "--http-restricted-api=$closed"
  # Lets the gateway ping every 10 s (keepalive_s = 10), which notices a dead connection; Triton's floor is 300 s.
  --grpc-http2-min-recv-ping-interval-without-data=5000
  --grpc-keepalive-permit-without-calls=1
  # Connections are renewed, so that callers find new replicas; calls in flight get their time.
  --grpc-max-connection-age=1800000
  --grpc-max-connection-age-grace=600000
  --exit-timeout-secs=60
  # Tensors pass between Triton and the model through /dev/shm: docker run --shm-size=2g, or a volume of medium Memory.
  --backend-config=python,shm-default-byte-size=67108864
  --allow-metrics=true
)
if [[ $config == configs/* ]]; then
  command+=("--model-config-name=$engine")
fi
# Streams otherwise keep as many response objects as their longest backlog had. Not in Triton 24.10 and before.
if [[ $engine != embedded ]]; then
  command+=(--grpc-max-response-pool-size=64)
fi
command+=("$@")

if [[ -n ${VISION_GATEWAY_TRITON_DRY_RUN:-} ]]; then
  printf '%s\n' "${command[@]}"
  exit
fi
exec "${command[@]}"
