import de.kherud.llama.InferenceParameters;
import de.kherud.llama.LlamaModel;
import de.kherud.llama.LlamaOutput;
import de.kherud.llama.ModelParameters;
import de.kherud.llama.args.LogFormat;
import de.kherud.llama.args.Sampler;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;

/// llama.cpp in a JVM of its own. Started with a GGUF file; answers one line per line of input:
/// `encode TEXT` with ids separated by commas, `generate N TEXT` with the greedy continuation of N
/// tokens. Texts come and go in Base64.
class LlamaCpp {
  private LlamaCpp() {}

  public static void main(String[] args) throws IOException {
    LlamaModel.setLogger(LogFormat.TEXT, (_, _) -> {});
    LlamaModel model =
        new LlamaModel(
            new ModelParameters()
                .setModel(args[0])
                .setThreads(2)
                .setThreadsBatch(2)
                .setCtxSize(512)
                .setGpuLayers(0)
                .setParallel(1)
                .disableContextShift());
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      String[] words = line.split(" ");
      String text =
          new String(Base64.getDecoder().decode(words[words.length - 1]), StandardCharsets.UTF_8);
      System.out.println(
          "> "
              + (words[0].equals("encode")
                  ? Arrays.toString(model.encode(text)).replaceAll("[\\[\\] ]", "")
                  : generate(model, text, Integer.parseInt(words[1]))));
    }
    System.out.flush();
    Runtime.getRuntime().halt(0); // a native thread stays attached: a normal exit would wait for it
  }

  private static String generate(LlamaModel model, String prompt, int tokens) {
    InferenceParameters greedy =
        new InferenceParameters(prompt)
            .setTemperature(0f)
            .setTopK(1)
            .setSamplers(Sampler.TOP_K)
            .setRepeatPenalty(1f)
            .setNPredict(tokens)
            .setCachePrompt(false);
    StringBuilder text = new StringBuilder();
    for (LlamaOutput output : model.generate(greedy)) {
      text.append(output.text);
    }
    return Base64.getEncoder().encodeToString(text.toString().getBytes(StandardCharsets.UTF_8));
  }
}
