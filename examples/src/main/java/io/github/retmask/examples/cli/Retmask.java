package io.github.retmask.examples.cli;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.List;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParseResult;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.UnmatchedArgumentException;

/// The `retmask` command line: finds the retrieval heads of a model, switches heads off, and trains
/// with what is missing then.
///
/// Exit codes: 0 on success, 1 on a failed run, 2 on bad usage, 130 on Ctrl-C. Results go to
/// standard output; every error is one line on standard error.
@Command(
    name = "retmask",
    description = "Attention heads as switches: find retrieval heads, mask them, train with that.",
    synopsisSubcommandLabel = "COMMAND",
    footer = {
      "",
      "Exit codes: 0 success, 1 failed, 2 bad usage, 130 interrupted.",
      "Long commands go on where they were when run again with the same options.",
      "retmask COMMAND --help shows options and examples of a command."
    })
public final class Retmask implements Runnable {
  @Option(
      names = "--verbose",
      scope = ScopeType.INHERIT,
      description = "Log more, and show where an error came from.")
  private boolean verbose;

  @Option(
      names = {"-h", "--help"},
      usageHelp = true,
      scope = ScopeType.INHERIT,
      description = "Show this help.")
  private boolean help;

  @Option(
      names = "--version",
      versionHelp = true,
      scope = ScopeType.INHERIT,
      description = "Show the version.")
  private boolean version;

  private final Console console;

  private Retmask(Console console) {
    this.console = console;
  }

  /// Runs a command line and exits.
  public static void main(String[] args) {
    if (List.of(args).contains("--verbose")) {
      // read when the first logger is made
      System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "debug");
    }
    Console console =
        new Console(
            new BufferedOutputStream(new FileOutputStream(FileDescriptor.out)),
            new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8),
            Boolean.getBoolean("retmask.terminal"));
    System.exit(run(console, args));
  }

  /// Runs a command line.
  ///
  /// @return the exit code
  static int run(Console console, String... args) {
    Retmask root = new Retmask(console);
    CommandLine cli = root.commandLine();
    StringWriter help = new StringWriter();
    cli.setOut(new PrintWriter(help));
    try {
      int code = cli.execute(args);
      console.stream(help.toString());
      return code;
    } catch (Throwable failure) {
      return root.failed(failure, invoked(cli));
    }
  }

  /// The command that was called, as far as it is known.
  private static CommandLine invoked(CommandLine cli) {
    ParseResult parsed = cli.getParseResult();
    return parsed != null && parsed.hasSubcommand()
        ? parsed.subcommand().commandSpec().commandLine()
        : cli;
  }

  private CommandLine commandLine() {
    CommandLine cli =
        new CommandLine(this)
            .addSubcommand("quickstart", new QuickstartCommand(console))
            .addSubcommand("info", new InfoCommand(console))
            .addSubcommand("logits", new LogitsCommand(console))
            .addSubcommand("generate", new GenerateCommand(console))
            .addSubcommand("encode", new EncodeCommand(console))
            .addSubcommand("decode", new DecodeCommand(console))
            .addSubcommand("score", new ScoreCommand(console))
            .addSubcommand("heads", new HeadsCommand(console))
            .addSubcommand("mask", new MaskCommand(console))
            .addSubcommand("export", new ExportCommand(console))
            .addSubcommand("sample", new SampleCommand(console))
            .addSubcommand("dpo", new DpoCommand(console))
            .addSubcommand("train", new TrainCommand(console))
            .addSubcommand("eval", new EvalCommand(console));
    String version = "retmask " + version();
    cli.getCommandSpec().version(version);
    cli.getSubcommands().values().forEach(sub -> sub.getCommandSpec().version(version));
    return cli.setExpandAtFiles(false) // @FILE is a list of heads or ids
        .setColorScheme(CommandLine.Help.defaultColorScheme(CommandLine.Help.Ansi.OFF))
        .setParameterExceptionHandler((e, _) -> badUsage(e))
        .setExecutionExceptionHandler((e, command, _) -> failed(e, command));
  }

  /// `retmask` alone.
  @Override
  public void run() {
    throw new UsageException("no command given; retmask --help lists them");
  }

  private int badUsage(ParameterException e) {
    CommandLine command = e.getCommandLine();
    String name = command.getCommandSpec().qualifiedName();
    String message = Failures.oneLine(e.getMessage());
    if (command.getParent() == null
        && e instanceof UnmatchedArgumentException unmatched
        && !unmatched.isUnknownOption()) {
      message = "no command \"" + unmatched.getUnmatched().getFirst() + "\"";
    }
    console.note("%s: %s; see %s --help".formatted(name, message, name));
    trace(e);
    return ExitCode.USAGE;
  }

  private int failed(Throwable failure, CommandLine command) {
    boolean quiet = failure instanceof Console.OutputClosed closed && closed.isBrokenPipe();
    if (!quiet) {
      console.note(command.getCommandSpec().qualifiedName() + ": " + Failures.message(failure));
      trace(failure);
    }
    return Failures.exitCode(failure);
  }

  private void trace(Throwable failure) {
    if (verbose) {
      StringWriter trace = new StringWriter();
      failure.printStackTrace(new PrintWriter(trace));
      console.note(trace.toString().stripTrailing());
    }
  }

  /// The version of this build, from a resource that Maven fills in.
  static String version() {
    try (InputStream in = Retmask.class.getResourceAsStream("version.txt")) {
      return in == null
          ? "(unknown version)"
          : new String(in.readAllBytes(), StandardCharsets.UTF_8).strip();
    } catch (IOException e) {
      return "(unknown version)";
    }
  }
}
