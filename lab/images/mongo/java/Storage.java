import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import java.io.IOException;
import java.net.InetSocketAddress;

/** Serves one database file on a free port of 127.0.0.1, says which, and closes the file when standard input ends. */
public final class Storage {
    private Storage() {}

    public static void main(String[] arguments) throws IOException {
        MongoServer server = new MongoServer(new H2Backend(arguments[0]));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind(new InetSocketAddress("127.0.0.1", 0), 1, 4);
        System.out.println(server.getLocalAddress().getPort());
        System.out.flush();
        while (System.in.read() >= 0) {
            // the front never writes: this waits for its end
        }
        System.exit(0);
    }
}
