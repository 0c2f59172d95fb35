// Runs every scenario with Kafka's own Java client against the cluster at BOOTSTRAP, one line on stdout for each:
// PASS, FAIL, SKIP or NOT_SERVED, the scenario's name, and the reason unless it passed. Built against each client version.

import java.util.List;
import java.util.Map;

public final class Interop {
    public static void main(String[] arguments) throws Exception {
        Support.bootstrap = arguments[0];
        Support.prefix = arguments[1];
        var only = List.of(arguments).subList(2, arguments.length);
        for (var scenario : scenarios()) {
            if (only.isEmpty() || only.contains(scenario.getKey())) Report.run(scenario.getKey(), scenario.getValue());
        }
        Support.closeAdmin();
        System.out.flush();
        // Clients that a failed scenario left behind must not keep the process alive.
        Runtime.getRuntime().halt(0);
    }

    private static List<Map.Entry<String, Report.Body>> scenarios() {
        return List.of(
                Map.entry("admin", AdminScenario::run),
                Map.entry("codecs", ProduceScenarios::codecs),
                Map.entry("idempotent", ProduceScenarios::idempotent),
                Map.entry("group", GroupScenarios::classic),
                Map.entry("cooperative", GroupScenarios::cooperative),
                Map.entry("commit-resume", GroupScenarios::commitAndResume),
                Map.entry("offsets-for-times", OffsetScenarios::offsetsForTimes),
                Map.entry("headers", ProduceScenarios::headers),
                Map.entry("large", ProduceScenarios::large),
                Map.entry("seek", OffsetScenarios::seek),
                Map.entry("delete-records", OffsetScenarios::deleteRecords),
                Map.entry("spark-pattern", OffsetScenarios::sparkPattern),
                Map.entry("transactions", LaterScenarios::transactions),
                Map.entry("kip-848", LaterScenarios::consumerProtocol),
                Map.entry("sasl", SecureScenarios::sasl),
                Map.entry("tls", SecureScenarios::tls),
                Map.entry("acls", SecureScenarios::acls),
                Map.entry("share-groups", LaterScenarios::shareGroups));
    }
}
