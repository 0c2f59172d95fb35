// One scenario's outcome as one line, and the checks that scenarios make.

import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

final class Report {
    private static final long LONGEST_SECONDS = 45;
    private static final int LONGEST_REASON = 300;

    interface Body {
        void run() throws Exception;
    }

    /** The client lacks the feature. */
    static final class Skipped extends RuntimeException {
        Skipped(String reason) {
            super(reason);
        }
    }

    /** The broker refused the feature cleanly. */
    static final class NotServed extends RuntimeException {
        NotServed(Throwable refusal) {
            super(describe(refusal), refusal);
        }
    }

    static void run(String name, Body body) {
        var task = new FutureTask<Void>(() -> {
            body.run();
            return null;
        });
        var thread = new Thread(task, name);
        thread.setDaemon(true);
        var from = System.nanoTime();
        thread.start();
        String line;
        try {
            task.get(LONGEST_SECONDS, TimeUnit.SECONDS);
            line = "PASS " + name;
        } catch (ExecutionException failure) {
            line = outcome(name, failure.getCause());
        } catch (TimeoutException | InterruptedException failure) {
            for (var frame : thread.getStackTrace()) System.err.println("  at " + frame);
            line = "FAIL " + name + ": not finished after " + LONGEST_SECONDS + " s";
        }
        line = line.replaceAll("\\s+", " ");
        System.out.println(line.substring(0, Math.min(line.length(), LONGEST_REASON)));
        System.err.printf("%s took %d ms%n", name, (System.nanoTime() - from) / 1_000_000);
    }

    private static String outcome(String name, Throwable cause) {
        if (cause instanceof Skipped) return "SKIP " + name + ": " + cause.getMessage();
        if (cause instanceof NotServed) return "NOT_SERVED " + name + ": " + cause.getMessage();
        cause.printStackTrace();
        return "FAIL " + name + ": " + describe(cause);
    }

    static String describe(Throwable cause) {
        return cause.getClass().getSimpleName() + ": " + cause.getMessage();
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void equal(Object expected, Object actual, String what) {
        if (!expected.equals(actual)) throw new AssertionError(what + ": expected " + expected + ", got " + actual);
    }

    /** Fails unless the action ends in this error, wrapped in futures or not; returns it. */
    static <E extends Throwable> E fails(Class<E> expected, Body action) throws Exception {
        try {
            action.run();
        } catch (Exception failure) {
            var cause = failure instanceof ExecutionException ? failure.getCause() : failure;
            if (expected.isInstance(cause)) return expected.cast(cause);
            throw new AssertionError("expected " + expected.getSimpleName() + ", got " + describe(cause), cause);
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", and it succeeded");
    }

    /** Waits until the condition holds; one that throws an exception does not hold yet, one that throws an error never will. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        var deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        Exception last = null;
        do {
            try {
                if (condition.call()) return;
                last = null;
            } catch (Exception failure) {
                last = failure;
            }
            Thread.sleep(20);
        } while (System.nanoTime() < deadline);
        throw new AssertionError("not within 20 s: " + what + (last == null ? "" : " (" + describe(last) + ")"), last);
    }

    private Report() {}
}
