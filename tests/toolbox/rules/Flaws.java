import java.io.File;
import java.io.InputStream;
import java.io.ObjectInputStream;
import java.security.MessageDigest;
import java.security.cert.X509Certificate;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.Statement;
import javax.crypto.Cipher;
import javax.net.ssl.X509TrustManager;
import javax.servlet.http.HttpServletRequest;
import javax.xml.parsers.DocumentBuilderFactory;
import org.springframework.web.bind.annotation.RequestParam;

class Flaws {
    void commands(HttpServletRequest request) throws Exception {
        String host = request.getParameter("host");
        // ruleid: java-command-injection
        Runtime.getRuntime().exec("ping " + host);
        // ok: java-command-injection
        new ProcessBuilder("ping", "-c", "1", host).start();
    }

    String queries(@RequestParam String name, Connection connection, Statement statement) throws Exception {
        // ruleid: java-sql-injection
        statement.executeQuery("SELECT * FROM users WHERE name = '" + name + "'");
        // ok: java-sql-injection
        PreparedStatement prepared = connection.prepareStatement("SELECT * FROM users WHERE name = ?");
        prepared.setString(1, name);
        // ok: java-sql-injection
        statement.executeQuery("SELECT * FROM users WHERE id = " + Integer.parseInt(name));
        return name;
    }

    void files(HttpServletRequest request) {
        // ruleid: java-path-traversal
        new File("/srv/files/" + request.getParameter("name"));
        // ok: java-path-traversal
        new File("/srv/files/readme.txt");
    }

    Object load(InputStream stream) throws Exception {
        ObjectInputStream in = new ObjectInputStream(stream);
        // ruleid: java-unsafe-deserialisation
        return in.readObject();
    }

    Object loadFiltered(InputStream stream) throws Exception {
        ObjectInputStream in = new ObjectInputStream(stream);
        in.setObjectInputFilter(FILTER);
        // ok: java-unsafe-deserialisation
        return in.readObject();
    }

    void xml() throws Exception {
        // ruleid: java-xxe
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.newDocumentBuilder();
    }

    void xmlHardened() throws Exception {
        // ok: java-xxe
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        factory.newDocumentBuilder();
    }

    void crypto() throws Exception {
        // ruleid: java-weak-hash
        MessageDigest.getInstance("MD5");
        // ok: java-weak-hash
        MessageDigest.getInstance("SHA-256");
        // ruleid: java-weak-cipher
        Cipher.getInstance("DES/CBC/PKCS5Padding");
        // ruleid: java-weak-cipher
        Cipher.getInstance("AES/ECB/PKCS5Padding");
        // ok: java-weak-cipher
        Cipher.getInstance("AES/GCM/NoPadding");
    }

    abstract class Trusting implements X509TrustManager {
        // ruleid: java-trust-all-certificates
        public void checkServerTrusted(X509Certificate[] chain, String type) { }
    }

    abstract class Checking implements X509TrustManager {
        // ok: java-trust-all-certificates
        public void checkServerTrusted(X509Certificate[] chain, String type) { inner.checkServerTrusted(chain, type); }
    }
}
