#!/usr/bin/env bash
# The measurements that need a real GPU, in parts of at most nine minutes, each with its peers in the same call:
#
#   node bench/run.mjs --bundle && bench/gpu.sh tensor OUT [SCRIPT that measures PyTorch]
#
# Parts: correct (outputs against f32 and ONNX Runtime first of all, random networks too), tensor, batch, fusion, algorithms, regret,
# int8, engine.
# SQUEEZENET names a model for the part "engine". Logs and JSON land in OUT, the timing cache in OUT/cache.json: put an earlier one
# there and nothing is tuned again.
set -u
part=${1:?which part} out=${2:?where to} torch=${3:+--torch $3}
mkdir -p "$out"
run() { # SECONDS NAME ARGS…
  local seconds=$1 name=$2
  shift 2
  timeout "$seconds" node "dist/bench/$name.mjs" "$@" >>"$out/$part.log" 2>&1 || echo "$name $*: status $?" >>"$out/$part.log"
}
latency() { # SECONDS ARGS…
  run "$1" latency --toggles fast --seconds 0.5 --cache "$out/cache.json" "${@:2}"
}
case $part in
correct)
  run 120 random-graphs --count 300
  latency 120 --networks resnet50 --precisions f32,f16,int8 --tune 25
  latency 120 --networks bert,vit --precisions f32,f16 --tune 20
  ;;
tensor)
  run 130 gemm --toggles fast --sizes 1024,4096 --types f16,i8,f32 --tactics 'matrix|vector$' --seconds 18 $torch
  run 40 gemv --toggles fast --seconds 8
  for network in resnet50 mobilenetv2 bert vit; do latency 100 --networks $network --precisions f16 --tune 45 $torch; done
  ;;
batch)
  latency 260 --networks resnet50 --batches 32 --precisions f16,int8 --tune 100 $torch
  latency 220 --networks bert,vit --batches 8 --precisions f16 --tune 45 $torch
  ;;
fusion) run 530 fusion --toggles fast --networks resnet50,mobilenetv2,bert --tune 40 --seconds 0.5 --json "$out/fusion.json" ;;
algorithms) for batch in 1 32; do run 260 algorithms --batch $batch --seconds 7 --json "$out/algorithms-$batch.json" --svg "$out/algorithms-$batch.svg"; done ;;
regret) run 540 regret --seconds 500 --json "$out/regret.json" ;;
int8) run 540 int8 --toggles fast --seconds 480 --json "$out/int8.json" ;;
engine)
  run 120 load resnet50 --fp16 --tune 60 --timingCacheFile "$out/cache.json"
  run 120 overhead "${SQUEEZENET:-mobilenetv2}" --toggles fast --tune 45 --timingCacheFile "$out/cache.json"
  run 120 soak --runs 2000 --cycles 20
  ;;
*) echo "no part is called $part" >&2 && exit 2 ;;
esac
tail -n 40 "$out/$part.log"
