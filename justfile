# `just` lists the recipes; every one calls a script or cargo, so nothing here is needed on a new machine.
default:
    @just --list

# What CI runs.
ci:
    .ci/run

# Format, lint and test.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace

# The end-to-end suite N times, to find flakes.
flakes n="20":
    tests/checks/flakes.sh {{n}}

# The seeded simulation of the group member, `SEED=42 just sim` for one seed.
sim:
    cargo test -p kafka-consumer --lib group::simulation -- --nocapture

# Other people's clients on the kafka-broker binary, all or those named: `just interop kcat franz-go`.
interop *clients:
    tests/interop/clients/run.sh {{clients}}

# The whole test suite on real Apache Kafka.
kafka nodes="1" version="":
    tests/interop/apache-kafka/run.sh {{nodes}} {{version}}

# The Spark example on the bundled broker and on Apache Kafka.
spark:
    tests/interop/spark.sh

# Codec and path benchmarks.
bench:
    cargo bench -p benches

# Our clients beside every other, then benches/RESULTS.md: `just compare --only goals`, `just compare --quick`.
compare *options:
    benches/compare/run.sh {{options}}

# What a record costs in instructions, under callgrind: all workloads or those named.
instructions *workloads:
    tests/checks/instructions.sh {{workloads}}

# Regenerate the shape tables and messages from Kafka's schemas.
generate:
    cargo run -p xtask -- generate
