import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** What the process has used so far: the clock and CPU time by one call each, the rest as procfs tells it. */
record Usage(long nanos, double cpuSeconds, double systemSeconds, long voluntary) {
    /** Of a second, in which /proc/self/stat counts: fixed for programs on Linux. */
    private static final double TICKS = 100;

    /** At the start of the process, without the tenth of a second that the first reading takes. */
    static Usage none() {
        return new Usage(System.nanoTime(), 0, 0, 0);
    }

    /** Where a window begins: reading what takes long is over by then. */
    static Usage beforeWindow() {
        double system = systemSecondsSoFar();
        long voluntary = voluntarySoFar();
        return new Usage(System.nanoTime(), cpuSecondsSoFar(), system, voluntary);
    }

    /** Where a window ends: reading what takes long comes after. */
    static Usage afterWindow() {
        double cpu = cpuSecondsSoFar();
        return new Usage(System.nanoTime(), cpu, systemSecondsSoFar(), voluntarySoFar());
    }

    Usage since(Usage then) {
        return new Usage(
            nanos - then.nanos,
            cpuSeconds - then.cpuSeconds,
            systemSeconds - then.systemSeconds,
            voluntary - then.voluntary);
    }

    private static double cpuSecondsSoFar() {
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    private static double systemSecondsSoFar() {
        try {
            String stat = Files.readString(Path.of("/proc/self/stat"));
            // The second field may hold spaces and ends with the last parenthesis; system time is the 15th.
            return Long.parseLong(stat.substring(stat.lastIndexOf(')') + 2).split(" ")[12]) / TICKS;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** By thread; what threads did that have ended is lost, but clients' threads live on. */
    private static long voluntarySoFar() {
        long voluntary = 0;
        try (DirectoryStream<Path> threads = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
            for (Path thread : threads) {
                try {
                    voluntary += line(thread.resolve("status"), "voluntary_ctxt_switches:");
                } catch (NoSuchFileException ended) {
                    continue;
                }
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return voluntary;
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
