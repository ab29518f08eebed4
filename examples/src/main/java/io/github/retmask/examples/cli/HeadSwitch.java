package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.Collection;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/// What `--mask-kind` does to a masked head.
///
/// @param text as given
/// @param gate factor on its output
/// @param kind how its output is computed
record HeadSwitch(String text, float gate, HeadKind kind) {

  /// Off: as if its columns of o_proj were zero.
  static final HeadSwitch ZERO = new HeadSwitch("zero", 0f, HeadKind.FULL);

  /// `none` with this switch on the given heads.
  ///
  /// @throws IllegalArgumentException naming a head that the model lacks
  HeadMask on(HeadMask none, Collection<HeadId> heads) {
    return none.withKind(heads, kind).withGate(heads, gate);
  }

  /// Reads `zero`, `uniform`, `scale=0.5` or `local=4,64`.
  static final class Converter implements ITypeConverter<HeadSwitch> {
    @Override
    public HeadSwitch convert(String text) {
      try {
        if (text.equals("zero")) {
          return ZERO;
        }
        if (text.equals("uniform")) {
          return new HeadSwitch(text, 1f, HeadKind.UNIFORM);
        }
        if (text.startsWith("scale=")) {
          float gate = Float.parseFloat(text.substring("scale=".length()));
          if (Float.isFinite(gate)) {
            return new HeadSwitch(text, gate, HeadKind.FULL);
          }
        }
        if (text.startsWith("local=")) {
          String[] sizes = text.substring("local=".length()).split(",", -1);
          if (sizes.length == 2) {
            int sink = Integer.parseInt(sizes[0].strip());
            int window = Integer.parseInt(sizes[1].strip());
            return new HeadSwitch(text, 1f, new HeadKind.Local(sink, window));
          }
        }
      } catch (NumberFormatException e) {
        // falls through to the one message below
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
      throw new TypeConversionException(
          "\"%s\", want zero, uniform, scale=FACTOR or local=SINK,WINDOW".formatted(text));
    }
  }
}
