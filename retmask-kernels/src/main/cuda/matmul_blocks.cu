// Linear layer with W of a block type; see matmul.cu. Rows of one chain are few_rows' or short, so
// each_output serves all of them.
#include "matmul.cuh"

#define MATMUL(type, W)        \
  MATMUL_FEW(type, W)          \
  MATMUL_TILES(type, W, 32, 2) \
  MATMUL_TILES(type, W, 64, 1)

MATMUL(q8_0, Q8_0Weight)
MATMUL(q4_0, Q4_0Weight)
MATMUL(q4_k, Q4_KWeight)
MATMUL(q6_k, Q6_KWeight)
