// Runs a command line tool as its script does, by its main method, in this process: starting a JVM takes longer than most of
// them run. Each has its own static state, its own streams, an exit that ends it alone, and hooks for Ctrl-C.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

final class Tool implements AutoCloseable {
    private static final long LONGEST_MILLISECONDS = 30_000;
    /** The tool that a thread belongs to. */
    private static final InheritableThreadLocal<Tool> CURRENT = new InheritableThreadLocal<>();
    /** The jar of the tools, which must not be on the class path: every run loads it anew. */
    private static final String JAR = System.getProperty("tools.jar");

    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private final List<Runnable> hooks = new CopyOnWriteArrayList<>();
    private final String name;
    private final AtomicBoolean ending = new AtomicBoolean();
    private final CountDownLatch end = new CountDownLatch(1);
    private volatile int status;

    /** Gives every tool its own streams and its own end. */
    static void install() {
        System.setOut(stream(System.out, true));
        System.setErr(stream(System.err, false));
        Exit.setExitProcedure(Tool::exit);
        Exit.setHaltProcedure(Tool::exit);
        Exit.setShutdownHookAdder((name, hook) -> {
            if (CURRENT.get() != null) CURRENT.get().hooks.add(hook);
        });
    }

    /** Like the real one this never returns, so nothing after it runs; an exception would be caught, and told as a failure. */
    private static void exit(int status, String message) {
        if (message != null) System.err.println(message);
        CURRENT.get().end(status);
        while (true) LockSupport.park();
    }

    /** The end of the process: the first one counts, and the hooks run before it is over. */
    private void end(int with) {
        if (!ending.compareAndSet(false, true)) return;
        interrupt();
        status = with;
        end.countDown();
    }

    /** Runs the hooks, each once. */
    private void interrupt() {
        for (var hook : hooks) if (hooks.remove(hook)) hook.run();
    }

    private static PrintStream stream(PrintStream rest, boolean isOut) {
        var dispatching = new OutputStream() {
            @Override
            public void write(int octet) {
                write(new byte[] {(byte) octet}, 0, 1);
            }

            @Override
            public void write(byte[] bytes, int from, int length) {
                var tool = CURRENT.get();
                if (tool == null) rest.write(bytes, from, length);
                else (isOut ? tool.out : tool.err).write(bytes, from, length);
            }
        };
        return new PrintStream(dispatching, true, StandardCharsets.UTF_8);
    }

    private Tool(String type, InputStream in, List<String> arguments) {
        name = type.substring(type.lastIndexOf('.') + 1);
        var thread = new Thread(() -> main(type, arguments), name);
        thread.setDaemon(true);
        // One tool at a time reads its input.
        if (in != null) System.setIn(in);
        thread.start();
    }

    private void main(String type, List<String> arguments) {
        CURRENT.set(this);
        try (var loader = new URLClassLoader(new URL[] {new File(JAR).toURI().toURL()}, Tool.class.getClassLoader())) {
            Thread.currentThread().setContextClassLoader(loader);
            var main = loader.loadClass(type).getMethod("main", String[].class);
            main.invoke(null, (Object) arguments.toArray(new String[0]));
            end(0);
        } catch (ReflectiveOperationException | IOException failure) {
            (failure instanceof InvocationTargetException ? failure.getCause() : failure).printStackTrace();
            end(1);
        }
    }

    /** Starts a tool of the package org.apache.kafka.tools, or with a dot in its name of any. */
    static Tool start(String type, String... arguments) {
        return new Tool(type(type), null, List.of(arguments));
    }

    /** Runs one to its end, whatever that is. */
    static Tool run(String type, String... arguments) throws Exception {
        return start(type, arguments).ended();
    }

    /** Runs one to its end, which must be a success; returns what it wrote. */
    static String succeeds(String type, String... arguments) throws Exception {
        return run(type, arguments).succeeded();
    }

    /** Runs one with lines on its input. */
    static String feed(String input, String type, String... arguments) throws Exception {
        var bytes = new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8));
        return new Tool(type(type), bytes, List.of(arguments)).ended().succeeded();
    }

    private static String type(String name) {
        return name.startsWith("kafka.") ? name : "org.apache.kafka.tools." + name;
    }

    /** Runs one in a JVM of its own, for those that need the real end of a process; returns what it wrote. */
    static String spawned(String type, String... arguments) throws Exception {
        var path = System.getProperty("java.class.path") + File.pathSeparator + JAR;
        var command = new ArrayList<>(List.of("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, type(type)));
        command.addAll(List.of(arguments));
        var process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        var out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        Report.equal(0, process.waitFor(), "exit code of " + type);
        return out;
    }

    /** Fails if it has ended. */
    void runs() {
        Report.check(end.getCount() > 0, name + " has ended: " + out() + err());
    }

    private Tool ended() throws Exception {
        var ended = end.await(LONGEST_MILLISECONDS, TimeUnit.MILLISECONDS);
        Report.check(ended, name + " ends within " + LONGEST_MILLISECONDS + " ms: " + out() + err());
        return this;
    }

    String succeeded() {
        Report.check(status == 0, name + " exited " + status + ": " + out() + err());
        return out();
    }

    /** Ctrl-C. */
    @Override
    public void close() throws Exception {
        var signal = new Thread(() -> {
            CURRENT.set(this);
            interrupt();
        });
        signal.start();
        signal.join(LONGEST_MILLISECONDS);
        ended();
    }

    int status() {
        return status;
    }

    String out() {
        return out.toString(StandardCharsets.UTF_8);
    }

    String err() {
        return err.toString(StandardCharsets.UTF_8);
    }
}
