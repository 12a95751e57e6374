import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client: argument 1 what to do, argument 2 the work as JSON. Prints JSON. */
public final class Bench {
  private static final int BATCH = 1000;
  private static final int CALLERS = 1000;
  private static long size = 0;

  public static void main(String[] args) throws Exception {
    JsonNode work = new ObjectMapper().readTree(args[1]);
    int records = work.get("records").asInt();
    int warmUp = work.get("warmUp").asInt();
    String group = work.get("groupId").asText();
    if (warmUp > 0) run(args[0], work, warmUp, group + "-warm");
    double before = cpuSeconds();
    double[] result = run(args[0], work, records, group);
    double cpu = cpuSeconds() - before;
    System.out.printf(
        java.util.Locale.ROOT,
        "{\"records\":%d,\"seconds\":%f,\"cpuSeconds\":%f,\"peakRssBytes\":%d}%n",
        (long) result[0], result[1], cpu, peakRssBytes());
    System.exit(0);
  }

  private static double[] run(String command, JsonNode work, int records, String group) throws Exception {
    return switch (command) {
      case "bytes" -> read(work, records, group);
      case "sendBatches" -> write(work, records, Bench::batches);
      case "sendSingles" -> write(work, records, Bench::singles);
      case "sendLone" -> write(work, records, Bench::lone);
      default -> throw new IllegalArgumentException(command);
    };
  }

  private static String brokers(JsonNode work) {
    List<String> all = new ArrayList<>();
    work.get("brokers").forEach(broker -> all.add(broker.asText()));
    return String.join(",", all);
  }

  private static double[] read(JsonNode work, int records, String group) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers(work));
    settings.put("group.id", group);
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    settings.put("isolation.level", "read_committed");
    settings.put("fetch.max.wait.ms", "200");
    settings.put("fetch.min.bytes", "1");
    settings.put("max.partition.fetch.bytes", String.valueOf(4 * 1024 * 1024));
    settings.put("fetch.max.bytes", String.valueOf(32 * 1024 * 1024));
    try (KafkaConsumer<byte[], byte[]> consumer =
        new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(Collections.singletonList(work.get("topic").asText()));
      // the last three quarters count, as in work.ts, which says why
      long first = 0;
      long started = 0;
      int before = 0;
      int count = 0;
      while (count < records) {
        ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofSeconds(1));
        if (polled.isEmpty()) continue;
        if (first == 0) first = System.nanoTime();
        for (ConsumerRecord<byte[], byte[]> record : polled) size += record.value().length;
        count += polled.count();
        if (started == 0 && count * 4L >= records && count < records) {
          started = System.nanoTime();
          before = count;
        }
      }
      return new double[] {count - before, (System.nanoTime() - (started == 0 ? first : started)) / 1e9};
    }
  }

  private interface Sending {
    void run(KafkaProducer<byte[], byte[]> producer, String topic, byte[] value, int records) throws Exception;
  }

  private static double[] write(JsonNode work, int records, Sending sending) throws Exception {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers(work));
    settings.put("acks", "all");
    settings.put("enable.idempotence", "true");
    byte[] value = "x".repeat(work.get("bytes").asInt()).getBytes(StandardCharsets.UTF_8);
    String topic = work.get("sink").asText();
    try (KafkaProducer<byte[], byte[]> producer =
        new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
      producer.send(new ProducerRecord<>(topic, key(0), value)).get();
      long started = System.nanoTime();
      sending.run(producer, topic, value, records);
      return new double[] {records, (System.nanoTime() - started) / 1e9};
    }
  }

  private static byte[] key(long index) {
    return ("run-" + index % 1000).getBytes(StandardCharsets.UTF_8);
  }

  private static void batches(KafkaProducer<byte[], byte[]> producer, String topic, byte[] value, int records)
      throws Exception {
    for (int begin = 0; begin < records; begin += BATCH) {
      List<Future<RecordMetadata>> waiting = new ArrayList<>(BATCH);
      for (int index = begin; index < Math.min(records, begin + BATCH); index++) {
        waiting.add(producer.send(new ProducerRecord<>(topic, key(index), value)));
      }
      for (Future<RecordMetadata> one : waiting) one.get();
    }
  }

  /** 1,000 callers, each of which sends its next record when the one before is acknowledged. */
  private static void singles(KafkaProducer<byte[], byte[]> producer, String topic, byte[] value, int records)
      throws Exception {
    CountDownLatch done = new CountDownLatch(records);
    AtomicLong next = new AtomicLong();
    for (int caller = 0; caller < Math.min(CALLERS, records); caller++) {
      sendNext(producer, topic, value, records, next, done);
    }
    done.await();
  }

  private static void sendNext(
      KafkaProducer<byte[], byte[]> producer, String topic, byte[] value, int records, AtomicLong next,
      CountDownLatch done) {
    long index = next.getAndIncrement();
    if (index >= records) return;
    producer.send(new ProducerRecord<>(topic, key(index), value), (metadata, error) -> {
      if (error != null) throw new IllegalStateException(error);
      done.countDown();
      sendNext(producer, topic, value, records, next, done);
    });
  }

  private static void lone(KafkaProducer<byte[], byte[]> producer, String topic, byte[] value, int records)
      throws Exception {
    for (int index = 0; index < records; index++) producer.send(new ProducerRecord<>(topic, key(index), value)).get();
  }

  private static double cpuSeconds() {
    return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
        .getProcessCpuTime() / 1e9;
  }

  /** The high-water mark of the resident set; nought where /proc is not to be read. */
  private static long peakRssBytes() throws Exception {
    Path status = Path.of("/proc/self/status");
    if (!Files.isReadable(status)) return 0;
    for (String line : Files.readAllLines(status)) {
      if (line.startsWith("VmHWM:")) return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
    }
    return 0;
  }
}
