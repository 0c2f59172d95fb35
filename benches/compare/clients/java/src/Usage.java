import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** What the process has used so far, as procfs tells it: Java has no getrusage. */
record Usage(long nanos, double userSeconds, double systemSeconds, long voluntary) {
    /** Of a second, in which /proc/self/stat counts: fixed for programs on Linux. */
    private static final double TICKS = 100;

    static Usage now() {
        try {
            String stat = Files.readString(Path.of("/proc/self/stat"));
            // The second field may hold spaces and ends with the last parenthesis; user time is the 14th.
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            double user = Long.parseLong(fields[11]) / TICKS;
            double system = Long.parseLong(fields[12]) / TICKS;
            long voluntary = 0;
            // By thread; what threads did that have ended is lost, but clients' threads live on.
            try (DirectoryStream<Path> threads = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
                for (Path thread : threads) {
                    try {
                        Path status = thread.resolve("status");
                        voluntary += line(status, "voluntary_ctxt_switches:");
                    } catch (NoSuchFileException ended) {
                        continue;
                    }
                }
            }
            return new Usage(System.nanoTime(), user, system, voluntary);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    Usage since(Usage then) {
        return new Usage(
            nanos - then.nanos,
            userSeconds - then.userSeconds,
            systemSeconds - then.systemSeconds,
            voluntary - then.voluntary);
    }

    static long peakRssKib() {
        return kib("/proc/self/status", "VmHWM:");
    }

    static long rssKib() {
        return kib("/proc/self/smaps_rollup", "Rss:");
    }

    private static long kib(String file, String name) {
        try {
            return line(Path.of(file), name);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static long line(Path file, String name) throws IOException {
        for (String line : Files.readAllLines(file)) {
            if (line.startsWith(name)) {
                return Long.parseLong(line.substring(name.length()).replace("kB", "").trim());
            }
        }
        throw new IOException("no " + name + " in " + file);
    }
}
