#!/usr/bin/env bash
# Run the whole test suite as on other processors, with other thread counts, Python versions and library versions, and print
# a table of the results. The runs follow each other in a clean clone; each takes about as long as the tests.
#
#     bash benchmarks/portability.sh              # every row
#     bash benchmarks/portability.sh avx2 lowest  # rows whose name contains one of these words
#
# The logs are written to $PORTABILITY_LOGS (by default a new folder below /tmp).
set -uo pipefail
cd "$(dirname "$0")/.."
logs=${PORTABILITY_LOGS:-$(mktemp -d)}
mkdir -p "$logs"
clone=$(mktemp -d)
trap 'kill ${busy:-} 2>/dev/null; rm -rf "$clone"' EXIT
git clone -q . "$clone"

newest=${PORTABILITY_PYTHON:-3.14} # a version, which uv downloads if needed, or the path of an interpreter

# name | variables | options of `uv run`
rows="
as it is (newest versions)||
ATEN_CPU_CAPABILITY=default|ATEN_CPU_CAPABILITY=default|
ATEN_CPU_CAPABILITY=avx2|ATEN_CPU_CAPABILITY=avx2|
ONEDNN_MAX_CPU_ISA=AVX2|ONEDNN_MAX_CPU_ISA=AVX2|
MKL_ENABLE_INSTRUCTIONS=AVX2|MKL_ENABLE_INSTRUCTIONS=AVX2|
2 threads|OMP_NUM_THREADS=2|
4 threads|OMP_NUM_THREADS=4|
VIT_BFLOAT16=yes|VIT_BFLOAT16=yes|
VIT_BFLOAT16=no|VIT_BFLOAT16=no|
rehearsal of the GPU tests|VIT_TEST_DEVICE=cpu|
beside a busy process on each core||
newest Python||--python $newest
lowest versions, Python 3.11||--python 3.11 --resolution lowest-direct
"

is_wanted() { # name words...
  local name=$1 word
  shift
  [ $# = 0 ] && return 0
  for word in "$@"; do [[ $name == *"$word"* ]] && return 0; done
  return 1
}

failed=0
printf '%-30s %-52s %s\n' run result seconds
while IFS='|' read -r name variables options; do
  [ -n "$name" ] && is_wanted "$name" "$@" || continue
  log=$logs/${name//[^a-zA-Z0-9._-]/-}.txt
  environment=venv-$(echo "${options:-newest}" | tr -c 'a-zA-Z0-9.\n' -)
  if [[ $name == "beside a busy"* ]]; then
    for _ in $(seq "$(nproc)"); do
      python3 -c 'while True: sum(range(10**6))' &
      busy="${busy:-} $!"
    done
  fi
  started=$SECONDS
  # shellcheck disable=SC2086 # words are separate options
  (cd "$clone" && rm -f uv.lock && env $variables UV_PROJECT_ENVIRONMENT="$clone/$environment" uv run -q $options pytest) \
    >"$log" 2>&1 </dev/null || failed=1
  printf '%-30s %-52s %s\n' "$name" "$(grep -aE '^[0-9]+ (passed|failed|error).* in ' "$log" | tail -n 1 | sed 's/ in .*//')" $((SECONDS - started))
  # shellcheck disable=SC2086 # several processes
  [ -z "${busy:-}" ] || kill $busy
  busy=
done <<<"$rows"
echo "logs: $logs"
exit $failed
