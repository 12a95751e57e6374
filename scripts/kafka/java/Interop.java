import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client, driven line by line: what the console tools cannot show or do, exact to the byte. The first line of
 * the input is a request, each further line a record, a key or a command; each line of the output is an answer. All are
 * JSON, bytes are base64, offsets and timestamps are strings. See interop.ts, which speaks the other side.
 */
public final class Interop {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final BufferedReader IN =
      new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
  private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

  public static void main(String[] args) throws Exception {
    JsonNode request = JSON.readTree(IN.readLine());
    switch (args[0]) {
      case "produce" -> produce(request);
      case "consume" -> consume(request);
      case "partitions" -> partitions(request);
      case "member" -> member(request);
      default -> throw new IllegalArgumentException(args[0]);
    }
    OUT.flush();
  }

  private static void produce(JsonNode request) throws Exception {
    String transaction = request.path("transaction").asText("");
    try (var producer =
        new KafkaProducer<>(properties(request), new ByteArraySerializer(), new ByteArraySerializer())) {
      if (!transaction.isEmpty()) {
        producer.initTransactions();
        producer.beginTransaction();
      }
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (String line = IN.readLine(); line != null; line = IN.readLine()) {
        JsonNode record = JSON.readTree(line);
        var made = new ProducerRecord<>(
            record.get("topic").asText(),
            record.hasNonNull("partition") ? record.get("partition").intValue() : null,
            record.hasNonNull("timestamp") ? Long.valueOf(record.get("timestamp").asText()) : null,
            bytes(record.get("key")),
            bytes(record.get("value")));
        for (JsonNode header : record.path("headers")) {
          made.headers().add(header.get(0).asText(), bytes(header.get(1)));
        }
        sent.add(producer.send(made));
      }
      producer.flush();
      for (var future : sent) {
        RecordMetadata metadata = future.get();
        ObjectNode answer = JSON.createObjectNode();
        answer.put("topic", metadata.topic());
        answer.put("partition", metadata.partition());
        answer.put("offset", Long.toString(metadata.offset()));
        answer.put("timestamp", Long.toString(metadata.timestamp()));
        say(answer);
      }
      switch (transaction) {
        case "commit" -> producer.commitTransaction();
        case "abort" -> producer.abortTransaction();
        case "leave" -> {
          // As a producer that died: nobody ends the transaction but its timeout.
          OUT.flush();
          Runtime.getRuntime().halt(0);
        }
        default -> { }
      }
    }
  }

  private static void consume(JsonNode request) throws Exception {
    try (var consumer =
        new KafkaConsumer<>(properties(request), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> all = new ArrayList<>();
      for (var info : consumer.partitionsFor(request.get("topic").asText())) {
        all.add(new TopicPartition(info.topic(), info.partition()));
      }
      consumer.assign(all);
      consumer.seekToBeginning(all);
      Map<TopicPartition, Long> ends = consumer.endOffsets(all);
      while (all.stream().anyMatch(at -> consumer.position(at) < ends.get(at))) {
        for (var record : consumer.poll(Duration.ofMillis(100))) {
          if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) say(answer(record));
        }
      }
    }
  }

  private static void partitions(JsonNode request) throws IOException {
    int count = request.get("partitions").intValue();
    for (String line = IN.readLine(); line != null; line = IN.readLine()) {
      OUT.println(BuiltInPartitioner.partitionForKey(bytes(JSON.readTree(line)), count));
    }
  }

  private static void member(JsonNode request) {
    BlockingQueue<String> commands = new LinkedBlockingQueue<>();
    Thread reader = new Thread(() -> {
      try {
        for (String line = IN.readLine(); line != null; line = IN.readLine()) commands.add(line);
      } catch (IOException ignored) {
        // An input that breaks is an input that ends.
      }
      commands.add("stop");
    });
    reader.setDaemon(true);
    reader.start();
    List<String> topics = new ArrayList<>();
    for (JsonNode topic : request.get("topics")) topics.add(topic.asText());
    try (var consumer =
        new KafkaConsumer<>(properties(request), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(topics, new ConsumerRebalanceListener() {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
          tell("assigned", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
          tell("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
          tell("lost", partitions);
        }
      });
      for (String command = ""; !"stop".equals(command); command = commands.poll()) {
        if ("commit".equals(command)) {
          consumer.commitSync();
          tell("committed", consumer.assignment());
        }
        for (var record : consumer.poll(Duration.ofMillis(50))) {
          ObjectNode answer = answer(record);
          answer.put("event", "record");
          say(answer);
        }
        OUT.flush();
      }
    }
  }

  private static void tell(String event, Collection<TopicPartition> partitions) {
    ObjectNode answer = JSON.createObjectNode();
    answer.put("event", event);
    ArrayNode list = answer.putArray("partitions");
    for (TopicPartition at : partitions) list.addObject().put("topic", at.topic()).put("partition", at.partition());
    say(answer);
    OUT.flush();
  }

  private static ObjectNode answer(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode answer = JSON.createObjectNode();
    answer.put("topic", record.topic());
    answer.put("partition", record.partition());
    answer.put("offset", Long.toString(record.offset()));
    answer.put("timestamp", Long.toString(record.timestamp()));
    answer.put("key", text(record.key()));
    answer.put("value", text(record.value()));
    ArrayNode headers = answer.putArray("headers");
    for (Header header : record.headers()) headers.addArray().add(header.key()).add(text(header.value()));
    return answer;
  }

  private static Properties properties(JsonNode request) {
    Properties properties = new Properties();
    request.get("properties").fields().forEachRemaining(entry ->
        properties.put(entry.getKey(), entry.getValue().asText()));
    return properties;
  }

  private static byte[] bytes(JsonNode node) {
    return node == null || node.isNull() ? null : Base64.getDecoder().decode(node.asText());
  }

  private static String text(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }

  private static void say(ObjectNode answer) {
    OUT.println(answer);
  }
}
