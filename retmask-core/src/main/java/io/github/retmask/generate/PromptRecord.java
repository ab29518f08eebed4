package io.github.retmask.generate;

/// One usable line of a prompt file.
///
/// @param id name of the record; the noise of its samples belongs to it
/// @param prompt what is asked
public record PromptRecord(String id, Prompt prompt) {}
