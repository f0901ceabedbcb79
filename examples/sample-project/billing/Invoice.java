package ferry.billing;

import java.io.InputStream;
import java.io.ObjectInputStream;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import javax.crypto.Cipher;
import javax.servlet.http.HttpServletRequest;

public class Invoice {
    ResultSet byCustomer(HttpServletRequest request, Connection connection) throws Exception {
        String customer = request.getParameter("customer");
        Statement statement = connection.createStatement();
        return statement.executeQuery("SELECT * FROM invoices WHERE customer = '" + customer + "'");
    }

    ResultSet byNumber(HttpServletRequest request, Connection connection) throws Exception {
        PreparedStatement statement = connection.prepareStatement("SELECT * FROM invoices WHERE number = ?");
        statement.setString(1, request.getParameter("number"));
        return statement.executeQuery();
    }

    Object restore(InputStream stream) throws Exception {
        ObjectInputStream in = new ObjectInputStream(stream);
        return in.readObject();
    }

    byte[] seal(byte[] data) throws Exception {
        Cipher cipher = Cipher.getInstance("AES/ECB/PKCS5Padding");
        return cipher.doFinal(data);
    }

    byte[] digest(byte[] data) throws Exception {
        return MessageDigest.getInstance("SHA-256").digest(data);
    }
}
