// A libcublas.so.12 for machines without a GPU: the products that the CUDA backend asks for, by plain
// loops, in the order of the stand-in driver's streams. Matrices are column-major; sums are F32, over
// ascending k, then rounded once.
#include <cstring>
#include <memory>
#include <vector>
#include "emulator.h"

#define API extern "C" __attribute__((visibility("default")))

// Of the stand-in driver.
extern "C" int emulator_enqueue(void* stream, void (*work)(void*), std::shared_ptr<void>* data);
extern "C" int emulator_is_memory(const void* start, size_t bytes);
extern "C" int cuMemAlloc_v2(unsigned long long* out, size_t bytes);
extern "C" int cuMemFree_v2(unsigned long long address);

namespace {

enum Status {
  SUCCESS = 0,
  NOT_INITIALIZED = 1,
  ALLOC_FAILED = 3,
  INVALID_VALUE = 7,
  EXECUTION_FAILED = 13,
  NOT_SUPPORTED = 15
};
enum Type { R_32F = 0, R_16F = 2, R_16BF = 14 };

// cublasComputeType_t: 32F, 32F_PEDANTIC, 32F_FAST_16F, 32F_FAST_16BF, 32F_FAST_TF32.
bool sums_in_f32(int compute) {
  return compute == 68 || compute == 69 || compute == 74 || compute == 75 || compute == 77;
}

struct Handle {
  void* stream = nullptr;
  unsigned long long memory = 0;  // of its own, outside of the pool
};

struct Matrix {
  char* start;
  int type;
  long long leading, stride;  // elements between columns, between matrices of a batch
  bool transposed;
};

size_t bytes_of(int type) { return type == R_32F ? 4 : 2; }

float get(const Matrix& m, const char* start, long long i) {
  switch (m.type) {
    case R_16BF:
      return __bfloat162float(((const __nv_bfloat16*)start)[i]);
    case R_16F:
      return __half2float(((const __half*)start)[i]);
    default:
      return ((const float*)start)[i];
  }
}

void put(const Matrix& m, char* start, long long i, float v) {
  switch (m.type) {
    case R_16BF:
      ((__nv_bfloat16*)start)[i] = __float2bfloat16_rn(v);
      break;
    case R_16F:
      ((__half*)start)[i] = __float2half_rn(v);
      break;
    default:
      ((float*)start)[i] = v;
  }
}

struct Product {
  int m, n, k, batch;
  float alpha, beta;
  Matrix a, b, c;

  // Element (i, p) of op(matrix).
  static long long at(const Matrix& x, long long i, long long p) {
    return x.transposed ? i * x.leading + p : p * x.leading + i;
  }

  void run() const {
    std::vector<float> left((size_t)m * k), sums(m);
    for (int z = 0; z < batch; z++) {
      const char* start_a = a.start + z * a.stride * (long long)bytes_of(a.type);
      const char* start_b = b.start + z * b.stride * (long long)bytes_of(b.type);
      char* start_c = c.start + z * c.stride * (long long)bytes_of(c.type);
      for (int p = 0; p < k; p++) {
        for (int i = 0; i < m; i++) {
          left[(size_t)p * m + i] = get(a, start_a, at(a, i, p));
        }
      }
      for (int j = 0; j < n; j++) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int p = 0; p < k; p++) {
          const float right = get(b, start_b, at(b, p, j));
          const float* column = &left[(size_t)p * m];
          for (int i = 0; i < m; i++) {
            sums[i] += column[i] * right;
          }
        }
        for (int i = 0; i < m; i++) {
          const long long to = j * c.leading + i;
          put(c, start_c, to, alpha * sums[i] + (beta == 0 ? 0 : beta * get(c, start_c, to)));
        }
      }
    }
  }

  // Whether a matrix of so many columns and rows, as it lies, is device memory.
  bool is_memory(const Matrix& x, int rows, int columns) const {
    const long long last = (batch - 1) * x.stride + (columns - 1) * x.leading + rows;
    return rows == 0 || columns == 0 || emulator_is_memory(x.start, (size_t)last * bytes_of(x.type));
  }
};

}  // namespace

API int cublasCreate_v2(void** handle) {
  Handle made;
  if (cuMemAlloc_v2(&made.memory, 4 << 20) != 0) {
    return ALLOC_FAILED;
  }
  *handle = new Handle(made);
  return SUCCESS;
}
API int cublasDestroy_v2(void* handle) {
  const int result = cuMemFree_v2(((Handle*)handle)->memory);
  delete (Handle*)handle;
  return result == 0 ? SUCCESS : EXECUTION_FAILED;
}
API int cublasGetVersion_v2(void*, int* version) {
  *version = 120000;
  return SUCCESS;
}
API int cublasSetStream_v2(void* handle, void* stream) {
  ((Handle*)handle)->stream = stream;
  return SUCCESS;
}
API int cublasSetWorkspace_v2(void*, void*, size_t) { return SUCCESS; }
API int cublasSetMathMode(void*, int) { return SUCCESS; }
API int cublasSetPointerMode_v2(void*, int mode) { return mode == 0 ? SUCCESS : NOT_SUPPORTED; }

API int cublasGemmStridedBatchedEx(
    void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
    int leading_a, long long stride_a, const void* b, int type_b, int leading_b, long long stride_b,
    const void* beta, void* c, int type_c, int leading_c, long long stride_c, int batch, int compute,
    int) {
  if (handle == nullptr) {
    return NOT_INITIALIZED;
  }
  const int rows_a = op_a == 0 ? m : k, rows_b = op_b == 0 ? k : n;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || leading_a < std::max(1, rows_a) ||
      leading_b < std::max(1, rows_b) || leading_c < std::max(1, m)) {
    return INVALID_VALUE;
  }
  if (!sums_in_f32(compute) || type_a != type_b || (type_c != type_a && type_c != R_32F)) {
    return NOT_SUPPORTED;
  }
  auto product = std::make_shared<Product>(Product{
      m, n, k, batch, *(const float*)alpha, *(const float*)beta,
      {(char*)a, type_a, leading_a, stride_a, op_a != 0},
      {(char*)b, type_b, leading_b, stride_b, op_b != 0},
      {(char*)c, type_c, leading_c, stride_c, false}});
  if (m == 0 || n == 0 || batch == 0) {
    return SUCCESS;
  }
  if (!product->is_memory(product->a, rows_a, op_a == 0 ? k : m) ||
      !product->is_memory(product->b, rows_b, op_b == 0 ? n : k) ||
      !product->is_memory(product->c, m, n)) {
    return EXECUTION_FAILED;
  }
  std::shared_ptr<void> data = product;
  const int result = emulator_enqueue(
      ((Handle*)handle)->stream, [](void* p) { ((Product*)p)->run(); }, &data);
  return result == 0 ? SUCCESS : EXECUTION_FAILED;
}

API int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                     const void* a, int type_a, int leading_a, const void* b, int type_b,
                     int leading_b, const void* beta, void* c, int type_c, int leading_c, int compute,
                     int algorithm) {
  return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, leading_a, 0, b,
                                    type_b, leading_b, 0, beta, c, type_c, leading_c, 0, 1, compute,
                                    algorithm);
}
