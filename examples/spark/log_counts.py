"""Counts log events by minute and level, from one Kafka topic into another, and survives being killed."""

import argparse

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, concat_ws, from_json, struct, to_json, unix_millis, window

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--bootstrap", required=True, help="host:port,… of the Kafka cluster")
arguments.add_argument("--input", required=True, help="topic of log events: JSON values, event times as timestamps")
arguments.add_argument("--output", required=True, help="topic that gets a JSON value for each minute and level")
arguments.add_argument("--checkpoint", required=True, help="directory that outlives the job; on a cluster a shared one")
arguments.add_argument("--until-caught-up", action="store_true", help="end when all that is there has been read")
arguments = arguments.parse_args()

spark = SparkSession.builder.appName("log-counts").getOrCreate()

logs = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", arguments.bootstrap)
    .option("subscribe", arguments.input)
    .option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", 5000)
    .load()
)

# An event may come up to two minutes later than newer ones; by then its minute is counted and leaves the state.
counts = (
    logs.select("timestamp", from_json(col("value").cast("string"), "service string, level string").alias("event"))
    .withWatermark("timestamp", "2 minutes")
    .groupBy(window("timestamp", "1 minute"), col("event.level").alias("level"))
    .count()
    .select(unix_millis("window.start").alias("minute"), "level", "count")
)

query = (
    counts.select(
        concat_ws(" ", "minute", "level").alias("key"),
        to_json(struct("minute", "level", "count")).alias("value"),
    )
    .writeStream.format("kafka")
    .option("kafka.bootstrap.servers", arguments.bootstrap)
    .option("topic", arguments.output)
    .option("checkpointLocation", arguments.checkpoint)
    .outputMode("append")
    .trigger(**({"availableNow": True} if arguments.until_caught_up else {"processingTime": "1 second"}))
    .start()
)
query.awaitTermination()
