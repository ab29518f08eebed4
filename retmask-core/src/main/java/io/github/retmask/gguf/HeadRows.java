package io.github.retmask.gguf;

import java.lang.foreign.MemorySegment;

/// The order of the rows of q and k in files of the llama architecture. Hugging Face rotates element i
/// of a head with element i + D/2; llama.cpp rotates neighbours, so its converter (`LlamaModel.permute`
/// in convert_hf_to_gguf.py) stores rows i and i + D/2 of each head as rows 2i and 2i + 1. Rows are
/// moved whole, so that weights of block types stay as they are.
///
/// @param heads heads of the matrix: H of q, Hkv of k
/// @param rows rows of the matrix, heads times D
record HeadRows(int heads, long rows) {

  /// Where the file has row `row` of the checkpoint.
  long inFile(long row) {
    long headDim = rows / heads;
    long within = row % headDim;
    long half = headDim / 2;
    return row - within + within % half * 2 + within / half;
  }

  /// Copies a matrix of the file into the order of the checkpoint.
  void toCheckpoint(MemorySegment to, MemorySegment from) {
    long bytes = from.byteSize() / rows;
    for (long row = 0; row < rows; row++) {
      MemorySegment.copy(from, inFile(row) * bytes, to, row * bytes, bytes);
    }
  }

  /// Whether the matrix of this name has another order in a file of the llama architecture.
  static boolean concerns(String checkpointName) {
    return isQuery(checkpointName) || checkpointName.contains(".self_attn.k_proj.");
  }

  /// Whether a matrix is that of the queries.
  static boolean isQuery(String checkpointName) {
    return checkpointName.contains(".self_attn.q_proj.");
  }
}
