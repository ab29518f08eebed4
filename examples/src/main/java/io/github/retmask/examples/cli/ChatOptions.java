package io.github.retmask.examples.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashMap;
import java.util.Map;
import picocli.CommandLine.Option;

/// Variables for a chat template.
final class ChatOptions {
  @Option(
      names = "--template-var",
      paramLabel = "NAME=JSON",
      description = "Variable for the chat template, such as enable_thinking=false; repeatable.")
  private Map<String, String> variables = new LinkedHashMap<>();

  /// The variables' values.
  ///
  /// @throws UsageException on a value that is not JSON
  Map<String, Object> variables() {
    Map<String, Object> values = new LinkedHashMap<>();
    variables.forEach(
        (name, json) -> {
          try {
            Object value = new ObjectMapper().readValue(json, Object.class);
            if (value != null) {
              values.put(name, value);
            }
          } catch (JsonProcessingException e) {
            throw new UsageException(
                "--template-var %s: \"%s\" is not JSON; a text needs quotes: '%s=\"%s\"'"
                    .formatted(name, json, name, json));
          }
        });
    return values;
  }
}
