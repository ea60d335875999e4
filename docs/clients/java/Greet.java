// With fusesource's mqtt-client and what it needs on the class path:
// java Greet.java HOST PORT CA-FILE USERNAME PASSWORD
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.fusesource.mqtt.client.BlockingConnection;
import org.fusesource.mqtt.client.MQTT;
import org.fusesource.mqtt.client.Message;
import org.fusesource.mqtt.client.QoS;
import org.fusesource.mqtt.client.Topic;

public class Greet {
    public static void main(String[] arguments) throws Exception {
        MQTT mqtt = new MQTT();
        mqtt.setHost("tls://" + arguments[0] + ":" + arguments[1]);
        mqtt.setSslContext(trusting(arguments[2]));
        mqtt.setVersion("3.1.1");
        mqtt.setClientId("greet-java");
        mqtt.setUserName(arguments[3]);
        mqtt.setPassword(arguments[4]);
        mqtt.setWillTopic("clients/java/gone");
        mqtt.setWillMessage("gone");
        mqtt.setWillQos(QoS.AT_LEAST_ONCE);
        BlockingConnection connection = mqtt.blockingConnection();
        connection.connect();
        connection.subscribe(new Topic[] {new Topic("clients/java/#", QoS.AT_LEAST_ONCE)});
        connection.publish("clients/java/greeting", "hello from Java".getBytes("UTF-8"), QoS.AT_LEAST_ONCE, false);
        while (true) {
            Message message = connection.receive();
            System.out.println(message.getTopic() + " " + new String(message.getPayload(), "UTF-8"));
            message.ack();
        }
    }

    /** TLS that trusts the authority in a PEM file. */
    private static SSLContext trusting(String file) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = new FileInputStream(file)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }
}
