package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.HeadPlan;

/// A [HeadPlan] in device memory, as `batch.cuh` declares it.
///
/// @param heads address of `PlannedHead[B,H]`
/// @param means address of `float[B,H,D]`, the constants of mean heads; 0 when there is none
record PlanImage(long heads, long means) {

  static PlanImage of(Gpu gpu, HeadPlan plan, int headDim) {
    int[] structs = new int[4 * plan.rows() * plan.heads()];
    float[] constants = null;
    int at = 0;
    for (int r = 0; r < plan.rows(); r++) {
      for (int h = 0; h < plan.heads(); h++) {
        HeadPlan.Mode mode = plan.mode(r, h);
        if (mode == HeadPlan.Mode.MEAN) {
          constants =
              constants == null ? new float[plan.rows() * plan.heads() * headDim] : constants;
          System.arraycopy(plan.mean(r, h), 0, constants, at / 4 * headDim, headDim);
        }
        structs[at++] = mode.ordinal();
        structs[at++] = Float.floatToRawIntBits(plan.gate(r, h));
        structs[at++] = plan.sink(r, h);
        structs[at++] = plan.window(r, h);
      }
    }
    // A step that comes again under another mask finds it where it found this one.
    long image = gpu.step() == null ? gpu.keep(structs) : gpu.upload(structs);
    return new PlanImage(image, constants == null ? 0 : gpu.upload(constants));
  }
}
