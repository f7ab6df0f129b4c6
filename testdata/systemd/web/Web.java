import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** A service in Java, which answers by HTTP on port 8090 of this machine. */
public class Web {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8090), 0);
        server.createContext("/", exchange -> {
            byte[] answer = "answered".getBytes();
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
    }
}
