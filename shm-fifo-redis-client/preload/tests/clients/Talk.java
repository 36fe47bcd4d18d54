// The JDK's own sockets, blocking and with a selector, by loopback TCP and unix socket.
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

public class Talk {
    static final byte[] PING = "*1\r\n$4\r\nPING\r\n".getBytes(StandardCharsets.US_ASCII);
    static final String PONG = "+PONG\r\n";

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("unix")) {
            SocketAddress address = UnixDomainSocketAddress.of(arguments[1]);
            blockingChannel(SocketChannel.open(address));
            selected(SocketChannel.open(address));
        } else {
            int port = Integer.parseInt(arguments[1]);
            InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
            stream(port);
            blockingChannel(SocketChannel.open(address));
            selected(SocketChannel.open(address));
        }
        System.out.println("passed");
    }

    static void stream(int port) throws IOException {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
            socket.setSoTimeout(10_000);
            OutputStream out = socket.getOutputStream();
            InputStream in = socket.getInputStream();
            for (int i = 0; i < 500; i++) {
                out.write(PING);
                expect(new String(in.readNBytes(PONG.length()), StandardCharsets.US_ASCII));
            }
        }
    }

    static void blockingChannel(SocketChannel channel) throws IOException {
        try (channel) {
            for (int i = 0; i < 500; i++) {
                channel.write(ByteBuffer.wrap(PING));
                ByteBuffer reply = ByteBuffer.allocate(PONG.length());
                while (reply.hasRemaining() && channel.read(reply) >= 0) {}
                expect(new String(reply.array(), StandardCharsets.US_ASCII));
            }
        }
    }

    static void selected(SocketChannel channel) throws IOException {
        try (channel; Selector selector = Selector.open()) {
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_READ);
            for (int i = 0; i < 500; i++) {
                channel.write(ByteBuffer.wrap(PING));
                ByteBuffer reply = ByteBuffer.allocate(PONG.length());
                while (reply.hasRemaining()) {
                    selector.select();
                    selector.selectedKeys().clear();
                    if (channel.read(reply) < 0) throw new IOException("the end");
                }
                expect(new String(reply.array(), StandardCharsets.US_ASCII));
            }
        }
    }

    static void expect(String reply) {
        if (!reply.equals(PONG)) throw new AssertionError(reply);
    }
}
