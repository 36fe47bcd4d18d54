// The JDK's own sockets: as streams, as blocking channels, and with a selector.
//
// Usage: java Jdk.java ENDPOINT
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;

public class Jdk {
    static String endpoint;
    static final String LARGE = "0123456789abcdef".repeat(3 << 16); // 3 MiB

    /** Bytes there and back, by one of the JDK's ways. */
    interface Transport extends AutoCloseable {
        void write(ByteBuffer bytes) throws IOException;
        int read(ByteBuffer bytes) throws IOException;
        void close() throws IOException;
    }

    static boolean isPort() {
        return endpoint.chars().allMatch(Character::isDigit);
    }

    static SocketAddress address() {
        if (!isPort()) return UnixDomainSocketAddress.of(endpoint);
        return new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(endpoint));
    }

    /** There are streams for TCP only. */
    static Transport stream() throws IOException {
        Socket socket = new Socket(InetAddress.getLoopbackAddress(), Integer.parseInt(endpoint));
        socket.setSoTimeout(100_000);
        return new Transport() {
            public void write(ByteBuffer bytes) throws IOException {
                socket.getOutputStream().write(bytes.array(), 0, bytes.limit());
            }
            public int read(ByteBuffer bytes) throws IOException {
                int length = socket.getInputStream().read(bytes.array(), 0, bytes.limit());
                if (length > 0) bytes.position(length);
                return length;
            }
            public void close() throws IOException { socket.close(); }
        };
    }

    static Transport blocking() throws IOException {
        SocketChannel channel = SocketChannel.open(address());
        return new Transport() {
            public void write(ByteBuffer bytes) throws IOException {
                while (bytes.hasRemaining()) channel.write(bytes);
            }
            public int read(ByteBuffer bytes) throws IOException { return channel.read(bytes); }
            public void close() throws IOException { channel.close(); }
        };
    }

    static Transport selected() throws IOException {
        SocketChannel channel = SocketChannel.open(address());
        channel.configureBlocking(false);
        Selector selector = Selector.open();
        SelectionKey key = channel.register(selector, SelectionKey.OP_READ);
        return new Transport() {
            void await(int interest) throws IOException {
                key.interestOps(interest);
                selector.select();
                selector.selectedKeys().clear();
            }
            public void write(ByteBuffer bytes) throws IOException {
                while (bytes.hasRemaining()) if (channel.write(bytes) == 0) await(SelectionKey.OP_WRITE);
            }
            public int read(ByteBuffer bytes) throws IOException {
                for (;;) {
                    int length = channel.read(bytes);
                    if (length != 0) return length;
                    await(SelectionKey.OP_READ);
                }
            }
            public void close() throws IOException { channel.close(); selector.close(); }
        };
    }

    interface Opening { Transport open() throws IOException; }

    /** A client of a few lines. */
    static class Client {
        final Opening opening;
        Transport transport;
        final ByteBuffer input = ByteBuffer.allocate(1 << 16).limit(0);

        Client(Opening opening) throws Exception { this.opening = opening; connect(); }

        /** As long as the server is being restarted. */
        void connect() throws InterruptedException {
            for (;;) {
                try { transport = opening.open(); input.limit(0); return; }
                catch (IOException refused) { Thread.sleep(20); }
            }
        }

        void send(Object... words) throws IOException {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            out.writeBytes(("*" + words.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
            for (Object word : words) {
                byte[] bytes = word.toString().getBytes(StandardCharsets.US_ASCII);
                out.writeBytes(("$" + bytes.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
                out.writeBytes(bytes);
                out.writeBytes("\r\n".getBytes(StandardCharsets.US_ASCII));
            }
            transport.write(ByteBuffer.wrap(out.toByteArray()));
        }

        byte next() throws IOException {
            while (!input.hasRemaining()) {
                input.clear();
                int length = transport.read(input);
                if (length < 0) throw new IOException("the end");
                input.flip();
            }
            return input.get();
        }

        String text(int length) throws IOException {
            byte[] bytes = new byte[length];
            for (int at = 0; at < length; at++) bytes[at] = next();
            next();
            next();
            return new String(bytes, StandardCharsets.US_ASCII);
        }

        /** A reply as text; an array's elements behind each other. */
        String reply() throws IOException {
            StringBuilder line = new StringBuilder();
            for (byte b = next(); b != '\r'; b = next()) line.append((char) b);
            next();
            String rest = line.substring(1);
            switch (line.charAt(0)) {
                case '$': return rest.equals("-1") ? "nil" : text(Integer.parseInt(rest));
                case '*':
                    List<String> elements = new ArrayList<>();
                    for (int left = Integer.parseInt(rest); left > 0; left--) elements.add(reply());
                    return String.join(" ", elements);
                case '-': throw new IllegalStateException(rest);
                default: return rest;
            }
        }

        String command(Object... words) throws IOException { send(words); return reply(); }

        /** The test does what it is asked, and answers. */
        String ask(String what) throws Exception {
            String id = command("CLIENT", "ID");
            command("RPUSH", "asked", what + " " + id + " " + ProcessHandle.current().pid());
            for (;;) {
                try { return command("BLPOP", "answer:" + id, 0).split(" ")[1]; }
                catch (IOException ended) { transport.close(); connect(); }
            }
        }

        long commands(int count) throws IOException {
            // Replies that are there at once are no reason to wait, which has to be seen.
            command("BLPOP", "nothing", 0.001);
            long total = 0;
            for (int number = 0; number < count; number++) {
                command("SET", "key", number);
                if (!command("GET", "key").equals("" + number)) throw new IllegalStateException("another value");
                total += Long.parseLong(command("INCR", "counter"));
            }
            return total;
        }

        String pipeline() throws IOException {
            for (int number = 0; number < 1000; number++) send("INCRBY", "sum", number);
            String last = "";
            for (int number = 0; number < 1000; number++) last = reply();
            return last;
        }

        boolean large() throws IOException {
            command("SET", "large", LARGE);
            return command("GET", "large").equals(LARGE);
        }
    }

    /** A thread subscribes, on a connection that was used before. */
    static String messages(Client client) throws Exception {
        StringBuilder received = new StringBuilder();
        CountDownLatch ready = new CountDownLatch(1);
        Client other = new Client(client.opening);
        other.commands(20);
        other.ask("check");
        Thread subscriber = new Thread(() -> {
            try {
                other.command("SUBSCRIBE", "channel");
                ready.countDown();
                for (int number = 0; number < 10; number++) received.append(other.reply().split(" ")[2]);
                other.transport.close();
            } catch (IOException ended) { received.append(ended); }
        });
        subscriber.start();
        ready.await();
        for (int number = 0; number < 10; number++) client.command("PUBLISH", "channel", number);
        subscriber.join();
        return received.toString();
    }

    /** What is written to a file goes there, also if its number was a connection's. */
    static String files(Client client) throws Exception {
        Path path = Path.of("file.txt");
        for (int number = 0; number < 20; number++) {
            for (int ping = 0; ping < 20; ping++) client.command("PING");
            client.transport.close();
            String text = "RPUSH leak " + number + "\r\n";
            try (var file = Files.newByteChannel(path, StandardOpenOption.CREATE, StandardOpenOption.WRITE,
                    StandardOpenOption.TRUNCATE_EXISTING)) {
                file.write(ByteBuffer.wrap(text.getBytes()));
            }
            if (!Files.readString(path).equals(text)) throw new IllegalStateException("another text");
            client.connect();
        }
        return client.command("EXISTS", "leak");
    }

    static void play(String name, Opening opening) throws Exception {
        Client client = new Client(opening);
        System.out.println(name + " commands " + client.commands(100));
        System.out.println("pipeline " + client.pipeline());
        System.out.println("large " + client.large());
        System.out.println("asked " + client.ask("check"));
        System.out.println("messages " + messages(client));
        for (String what : List.of("kill", "restart")) {
            System.out.println(what + " " + client.ask(what) + " " + client.commands(50) + " " + client.ask("check"));
        }
        System.out.println("file " + files(client));
        client.transport.close();
    }

    public static void main(String[] arguments) throws Exception {
        endpoint = arguments[0];
        if (isPort()) play("stream", Jdk::stream);
        play("blocking", Jdk::blocking);
        play("selected", Jdk::selected);
        Client client = new Client(Jdk::selected);
        client.commands(20);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            System.out.println("stopped");
            System.out.flush();
            Runtime.getRuntime().halt(0);
        }));
        client.ask("terminate");
    }
}
