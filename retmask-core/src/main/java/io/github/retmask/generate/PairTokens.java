package io.github.retmask.generate;

/// A preference pair as a trainer reads it.
///
/// @param id name of the record
/// @param prompt token ids of the prompt
/// @param chosen token ids of the better answer, its end included
/// @param rejected token ids of the other answer
public record PairTokens(String id, int[] prompt, int[] chosen, int[] rejected) {}
