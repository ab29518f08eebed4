/// Fast backends for `io.github.retmask.core`. Nothing is exported: core finds the backends as services.
@org.jspecify.annotations.NullMarked
module io.github.retmask.kernels {
  requires io.github.retmask.core;
  requires jcublas;
  requires jcuda;
  requires jdk.incubator.vector;
  requires org.slf4j;
  requires static org.jspecify;

  provides io.github.retmask.backend.Backend with
      io.github.retmask.kernels.cpu.VectorBackend,
      io.github.retmask.kernels.cuda.CudaBackend;
}
