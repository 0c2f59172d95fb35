import java.util.Locale;
import java.util.Map;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.common.utils.AppInfoParser;

/** The line of results. */
final class Report {
    private final Options options;
    private final Usage used;
    long records;
    long bytes;
    long errors;
    long ackedTotal;
    String requests = "null";
    String firstAckUs = "null";
    String latencyUs = "null";
    String memory = "null";

    /** Takes the last readings: call it while the client still lives. */
    Report(Options options, Usage start) {
        this.options = options;
        this.used = Usage.afterWindow().since(start);
    }

    void latency(Histogram nanos) {
        StringBuilder counts = new StringBuilder();
        for (HistogramIterationValue bucket : nanos.recordedValues()) {
            counts.append(counts.isEmpty() ? "[" : ",[").append(bucket.getValueIteratedTo() / 1e3);
            counts.append(',').append(bucket.getCountAtValueIteratedTo()).append(']');
        }
        latencyUs = String.format(
            Locale.ROOT,
            "{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,\"count\":%d,\"histogram\":[%s]}",
            nanos.getValueAtPercentile(50) / 1e3,
            nanos.getValueAtPercentile(99) / 1e3,
            nanos.getValueAtPercentile(99.9) / 1e3,
            nanos.getMaxValue() / 1e3,
            nanos.getTotalCount(),
            counts);
    }

    /** How many requests a client has sent so far. */
    static long requests(Map<MetricName, ? extends Metric> metrics) {
        for (Map.Entry<MetricName, ? extends Metric> metric : metrics.entrySet()) {
            MetricName name = metric.getKey();
            // The one of the whole client, not of a node.
            if (name.name().equals("request-total") && !name.tags().containsKey("node-id")) {
                return ((Number) metric.getValue().metricValue()).longValue();
            }
        }
        throw new IllegalStateException("the client does not count its requests");
    }

    @Override
    public String toString() {
        return String.format(
            Locale.ROOT,
            "{\"client\":\"%s\",\"version\":\"%s\",\"mode\":\"%s\",\"records\":%d,\"bytes\":%d,\"errors\":%d,"
                + "\"seconds\":%.6f,\"cpu_user_s\":%.6f,\"cpu_sys_s\":%.6f,\"rss_peak_kib\":%d,"
                + "\"voluntary_switches\":%d,\"requests\":%s,\"first_ack_us\":%s,"
                + "\"latency_us\":%s,\"acked_total\":%d,\"memory\":%s}",
            options.text("client"), AppInfoParser.getVersion(), options.mode, records, bytes, errors,
            used.nanos() / 1e9, used.cpuSeconds() - used.systemSeconds(), used.systemSeconds(), Usage.peakRssKib(),
            used.voluntary(), requests, firstAckUs,
            latencyUs, ackedTotal, memory);
    }
}
