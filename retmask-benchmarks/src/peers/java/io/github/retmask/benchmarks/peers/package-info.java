/// Retmask beside other engines on the same work, each in a JVM of its own. Start [PeerBenchmark].
@org.jspecify.annotations.NullMarked
package io.github.retmask.benchmarks.peers;
