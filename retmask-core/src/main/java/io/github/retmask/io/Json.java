package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.json.JsonMapper;

/// How this package reads and writes JSON: duplicate keys and anything after the value are errors.
final class Json {
  private static final JsonMapper MAPPER =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .build();
  static final ObjectReader READER = MAPPER.reader();
  static final ObjectWriter WRITER = MAPPER.writer();
  static final ObjectWriter PRETTY = MAPPER.writerWithDefaultPrettyPrinter();

  private Json() {}

  /// What the parser objects to and where, without its quotation of the source.
  static String reason(JsonProcessingException e) {
    String where =
        e.getLocation() == null
            ? ""
            : " (line %d, column %d)"
                .formatted(e.getLocation().getLineNr(), e.getLocation().getColumnNr());
    return problem(e) + where;
  }

  /// What the parser objects to, without its quotation of the source and its inner workings.
  static String problem(JsonProcessingException e) {
    return e.getOriginalMessage().replaceAll(" \\(start marker at .*\\)", "");
  }
}
