package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.SlabArena;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.Arena;

/// A [io.github.retmask.tensor.TensorArena] in device memory. Indices made by [#ints] are kept on the
/// host too, where they are checked.
final class CudaArena extends SlabArena {
  private static final long ALIGNMENT = 256; // what the driver gives; wide loads and copies want 16

  private final Gpu gpu;

  CudaArena(Gpu gpu) {
    super(ALIGNMENT, gpu.memory() == Gpu.Memory.POOLED ? SLAB_BYTES : 0);
    this.gpu = gpu;
  }

  @Override
  public Tensor ints(String name, int... values) {
    Tensor onDevice = allocate(name, DType.I32, values.length);
    Storage.Device storage = (Storage.Device) onDevice.storage();
    Storage mirrored =
        new Storage.Device(
            storage.address(),
            storage.bytes(),
            gpu,
            Arena.ofAuto().allocate(storage.bytes(), Long.BYTES));
    return new Tensor(name, DType.I32, onDevice.shape(), mirrored).copyFrom(values);
  }

  @Override
  protected Slab newSlab(long bytes) {
    long address = gpu.allocate(bytes);
    return new Slab() {
      @Override
      public Storage part(long offset, long length) {
        return new Storage.Device(address + offset, length, gpu, null);
      }

      /// All at once: a launch for every tensor would cost more.
      @Override
      public void recycle(long length) {
        gpu.driver().enter();
        gpu.zero(address, length);
      }

      @Override
      public void free() {
        gpu.free(address);
      }
    };
  }

  @Override
  protected String place() {
    return "on the GPU";
  }
}
