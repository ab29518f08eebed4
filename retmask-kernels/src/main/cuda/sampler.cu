// Draws a token for every row of logits [M,V] as Sampler does: the argmax of logit / T + Gumbel noise
// over the tokens that top-k, top-p and min-p keep; the noise is a function of the row's key and the
// token. Limited by latency.
//
// Several blocks share a row, each a stretch of STRETCH tokens: they find the likeliest token; where
// tokens are filtered, count them and their probabilities by BINS of logits, so that one block finds
// the bins in which the filters cut; then score what surely stays and list what lies in those bins,
// from which one block picks. Probabilities are summed as integers, so that no order matters.
//
// Sampler sums in another order and has other last bits of exp and log. Wherever that could matter, and
// where too many tokens lie in the bins of a cut, the row's result is UNDECIDED and the host draws.
#include "packs.cuh"

static constexpr int STRETCH = 4096;
static constexpr int BINS = 2048;
static constexpr float BINS_PER_LOGIT = 64;
static constexpr int MOST_CANDIDATES = 1024;  // of a row
static constexpr int MOST_OF_STRETCH = 256;
static constexpr int UNDECIDED = -1;
static constexpr double WEIGHT_ONE = 4398046511104.0;  // 2^42: sums of 2^21 weights fit
static constexpr double LN2 = 0.6931471805599453;
static constexpr double SLACK = 1e-6;
// Scores nearer than this may be in another order in Sampler: a thousand times their errors.
static constexpr double MARGIN = 1e-9;

typedef unsigned long long Bits;

// How the token of a row is drawn, TokenDraw of the host. A temperature of 0 takes the likeliest.
struct TokenDraw {
  Bits key;
  double temperature;
  double top_p;
  double lowest;  // log of min-p: scaled logits below it, relative to the likeliest one's 0, go
  int top_k;      // 0 for all
  int unused;

  __device__ __forceinline__ bool filters() const {
    return temperature > 0 && (top_k > 0 || top_p < 1);
  }
};

// The likeliest token of a row or of a stretch, the lowest id among equals; id is -1 where a logit is
// NaN.
struct Top {
  float logit;
  int id;
};

// The best score so far, whose it is, and the best of the others.
struct Best {
  double score;
  double second;
  int id;
  int unused;
};

// Where the filters cut a row. Bins count from the highest logits down. Tokens of bins below `sure`
// stay, unless min-p takes them; those of bins sure to last, and of bin kth where top-k cuts, are
// candidates. Counts and weights are of all bins below the one named.
struct Cut {
  int sure;
  int last;
  int kth;  // BINS where top-k takes all
  int count_sure;
  int count_kth;
  int unused;
  Bits weight_sure;
  Bits weight_kth;
  Bits weight_all;

  __device__ __forceinline__ bool lists(int bin) const {
    return bin < BINS && ((bin >= sure && bin <= last) || bin == kth);
  }
};

// --- the likeliest token ----------------------------------------------------------------------------

__device__ __forceinline__ Top higher(const Top& a, const Top& b) {
  if (a.id < 0 || b.id < 0) {
    return {0.f, -1};
  }
  return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}

// Calls take(id, logit) for the tokens of the block's stretch that this thread owns, id ascending.
template <class Take>
__device__ __forceinline__ void each_token(const float* logits, int vocab, Take take) {
  const float* row = logits + (long long)blockIdx.y * vocab;
  const bool wide = is_wide(row);
  const int end = min(vocab, ((int)blockIdx.x + 1) * STRETCH);
#pragma unroll 4
  for (int at = blockIdx.x * STRETCH + threadIdx.x * 4; at < end; at += blockDim.x * 4) {
    const Pack<float, 4> pack = load_pack<4>(row, at, vocab, wide);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (at + i < vocab) {
        take(at + i, pack.at[i]);
      }
    }
  }
}

__device__ __forceinline__ void find_top(Top* tops, const float* logits, int vocab) {
  SHARED_MEMORY(shared);
  Top* of_warps = (Top*)shared;
  Top top = {-INFINITY, vocab};
  each_token(logits, vocab, [&](int id, float logit) {
    if (logit != logit) {
      top.id = -1;
    } else if (top.id >= 0 && logit > top.logit) {
      top = {logit, id};
    }
  });
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    const Top other = {
        __shfl_xor_sync(ALL_LANES, top.logit, offset), __shfl_xor_sync(ALL_LANES, top.id, offset)};
    top = higher(top, other);
  }
  if (threadIdx.x % WARP == 0) {
    of_warps[threadIdx.x / WARP] = top;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < blockDim.x / WARP; w++) {
      top = higher(top, of_warps[w]);
    }
    tops[blockIdx.y * gridDim.x + blockIdx.x] = top;
  }
}

extern "C" __global__ void __launch_bounds__(256)
    sampler_top(Top* tops, const float* logits, int vocab) {
  find_top(tops, logits, vocab);
}
EXPORT_KERNEL(sampler_top)

// The likeliest token of a row, from its stretches.
__device__ __forceinline__ Top row_top(const Top* tops, int row, int stretches) {
  Top top = tops[(long long)row * stretches];
  for (int s = 1; s < stretches; s++) {
    top = higher(top, tops[(long long)row * stretches + s]);
  }
  return top;
}

// Whether a row has a highest logit; without one the host complains.
__device__ __forceinline__ bool is_drawable(const Top& top) {
  return top.id >= 0 && top.logit > -INFINITY && top.logit < INFINITY;
}

// --- noise and scores -------------------------------------------------------------------------------

// SplitMix64.at.
__device__ __forceinline__ Bits random_bits(Bits key, int id) {
  Bits z = key + (Bits)(id + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
  return z ^ z >> 31;
}

// Standard Gumbel noise of a token, -ln(-ln(1 - u)).
__device__ __forceinline__ double gumbel(Bits bits) {
  const double u = ((double)(bits >> 12) + 0.5) * 0x1p-52;
  return -log(-log1p(-u));
}

// Leading zeros z of the bits bound the noise: it is at most (z + 1) ln 2.
__device__ __forceinline__ double noise_bound(Bits bits) {
  const unsigned high = (unsigned)(bits >> 32);
  const int zeros = high != 0 ? __clz(high) : 32 + __clz((unsigned)bits);
  return (min(zeros, 52) + 1) * LN2 + SLACK;
}

__device__ __forceinline__ double scaled_logit(float logit, const Top& top, const TokenDraw& draw) {
  return ((double)logit - (double)top.logit) / draw.temperature;
}

__device__ __forceinline__ Best nothing() { return {-INFINITY, -INFINITY, -1, 0}; }

__device__ __forceinline__ Best better(const Best& a, const Best& b) {
  const bool second = b.score > a.score;
  const Best& high = second ? b : a;
  const Best& low = second ? a : b;
  return {high.score, max(high.second, low.score), high.id, 0};
}

// Scores a token that stays, unless it surely loses against `floor` or against the best so far.
__device__ __forceinline__ void consider(
    Best& best, double floor, float logit, int id, const Top& top, const TokenDraw& draw) {
  const double scaled = scaled_logit(logit, top, draw);
  const double needed = max(floor, best.score) - scaled;
  if (!(scaled >= draw.lowest) || needed > 53 * LN2 + SLACK) {
    return;
  }
  const Bits bits = random_bits(draw.key, id);
  if (needed <= noise_bound(bits)) {
    const double score = scaled + gumbel(bits);
    best = better(best, {score, -INFINITY, id, 0});
  }
}

// The best of the block, in thread 0. `of_warps` is shared.
__device__ __forceinline__ Best block_best(Best best, Best* of_warps) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    const Best other = {
        __shfl_xor_sync(ALL_LANES, best.score, offset),
        __shfl_xor_sync(ALL_LANES, best.second, offset),
        __shfl_xor_sync(ALL_LANES, best.id, offset), 0};
    best = better(best, other);
  }
  if (threadIdx.x % WARP == 0) {
    of_warps[threadIdx.x / WARP] = best;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < blockDim.x / WARP; w++) {
      best = better(best, of_warps[w]);
    }
  }
  return best;
}

// --- counting by bins -------------------------------------------------------------------------------

// Falls with the logit, from 0 for the highest; BINS for -infinity, which never stays.
__device__ __forceinline__ int bin_of(float logit, const Top& top) {
  const float distance = (top.logit - logit) * BINS_PER_LOGIT;
  return logit == -INFINITY ? BINS : distance < BINS - 1 ? (int)distance : BINS - 1;
}

// Probability relative to the likeliest token's 1.
__device__ __forceinline__ Bits weight_of(float logit, const Top& top, const TokenDraw& draw) {
  const double scaled = scaled_logit(logit, top, draw);
  return scaled < -32 ? 0 : (Bits)(exp(scaled) * WEIGHT_ONE + 0.5);
}

// What sums of weights, in units of 1, may differ from Sampler's: fixed point, and its roundings.
__device__ __forceinline__ double weight_error(double total, int vocab) {
  return vocab / WEIGHT_ONE + total * (vocab + 8) * 0x1p-51;
}

__device__ __forceinline__ void count_bins(
    int* counts,
    Bits* weights,
    const float* logits,
    const Top* tops,
    const TokenDraw* draws,
    int vocab) {
  const int row = blockIdx.y;
  const TokenDraw draw = draws[row];
  const Top top = row_top(tops, row, gridDim.x);
  if (!draw.filters() || !is_drawable(top)) {
    return;
  }
  SHARED_MEMORY(shared);
  Bits* own_weights = (Bits*)shared;           // [BINS]
  int* own_counts = (int*)(own_weights + BINS);  // [BINS]
  for (int b = threadIdx.x; b < BINS; b += blockDim.x) {
    own_weights[b] = 0;
    own_counts[b] = 0;
  }
  __syncthreads();
  each_token(logits, vocab, [&](int id, float logit) {
    const int bin = bin_of(logit, top);
    if (bin < BINS) {
      atomicAdd(own_counts + bin, 1);
      if (draw.top_p < 1) {
        atomicAdd(own_weights + bin, weight_of(logit, top, draw));
      }
    }
  });
  __syncthreads();
  for (int b = threadIdx.x; b < BINS; b += blockDim.x) {
    if (own_counts[b] > 0) {
      atomicAdd(counts + (long long)row * BINS + b, own_counts[b]);
      atomicAdd(weights + (long long)row * BINS + b, own_weights[b]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) sampler_count(
    int* counts,
    Bits* weights,
    const float* logits,
    const Top* tops,
    const TokenDraw* draws,
    int vocab) {
  count_bins(counts, weights, logits, tops, draws, vocab);
}
EXPORT_KERNEL(sampler_count)

// --- where the filters cut --------------------------------------------------------------------------

static constexpr int CUT_THREADS = 256;
static constexpr int OWN_BINS = BINS / CUT_THREADS;

// One block per row; thread t owns OWN_BINS neighbouring bins.
__device__ __forceinline__ void find_cut(
    Cut* cuts, const int* counts, const Bits* weights, const TokenDraw* draws, int vocab) {
  SHARED_MEMORY(shared);
  Bits* weight_below = (Bits*)shared;                  // [BINS + 1]
  int* count_below = (int*)(weight_below + BINS + 1);  // [BINS + 1]
  Bits* sums = (Bits*)(count_below + BINS + 2);        // [CUT_THREADS]
  int* numbers = (int*)(sums + CUT_THREADS);           // [CUT_THREADS]
  int* found = numbers + CUT_THREADS;                  // kth, sure, last
  const int row = blockIdx.x;
  const TokenDraw draw = draws[row];
  if (!draw.filters()) {
    if (threadIdx.x == 0) {
      cuts[row] = {BINS, -1, BINS, 0, 0, 0, 0, 0, 0};
    }
    return;
  }
  const int first = threadIdx.x * OWN_BINS;
  Bits sum = 0;
  int number = 0;
  for (int b = first; b < first + OWN_BINS; b++) {
    sum += weights[(long long)row * BINS + b];
    number += counts[(long long)row * BINS + b];
  }
  sums[threadIdx.x] = sum;
  numbers[threadIdx.x] = number;
  if (threadIdx.x == 0) {
    found[0] = BINS;
    found[1] = BINS;
    found[2] = -1;
  }
  __syncthreads();
  Bits weight = 0;
  int count = 0;
  for (int t = 0; t < threadIdx.x; t++) {
    weight += sums[t];
    count += numbers[t];
  }
  for (int b = first; b < first + OWN_BINS; b++) {
    weight_below[b] = weight;
    count_below[b] = count;
    weight += weights[(long long)row * BINS + b];
    count += counts[(long long)row * BINS + b];
    if (count_below[b] < draw.top_k && draw.top_k <= count) {
      found[0] = b;
    }
  }
  if (threadIdx.x == blockDim.x - 1) {
    weight_below[BINS] = weight;
    count_below[BINS] = count;
  }
  __syncthreads();
  const int kth = found[0];
  if (draw.top_p < 1) {
    // What top-p must reach is a part of what top-k leaves, of bin kth something between nothing and
    // all; a cut between these bounds, and by the error of the sums, is left to the candidates.
    const double low = weight_below[kth] / WEIGHT_ONE;
    const double high = weight_below[min(kth + 1, BINS)] / WEIGHT_ONE;
    const double error = weight_error(high, vocab);
    const double surely = draw.top_p * low - error;
    const double perhaps = draw.top_p * high + error;
    for (int b = first; b < first + OWN_BINS; b++) {
      const double below = weight_below[b] / WEIGHT_ONE;
      const double through = b + 1 == first + OWN_BINS ? weight / WEIGHT_ONE
                                                       : weight_below[b + 1] / WEIGHT_ONE;
      if ((b == 0 || below < surely) && through >= surely) {
        found[1] = min(b, kth);
      }
      if (below < perhaps && (b == BINS - 1 || through >= perhaps)) {
        found[2] = min(b, kth);
      }
    }
  } else if (threadIdx.x == 0) {
    found[1] = kth;
    found[2] = kth < BINS ? kth : -1;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const int sure = found[1];
    cuts[row] = {
        sure, found[2], kth, count_below[sure], count_below[kth], 0, weight_below[sure],
        weight_below[kth], weight_below[BINS]};
  }
}

extern "C" __global__ void __launch_bounds__(CUT_THREADS) sampler_cut(
    Cut* cuts, const int* counts, const Bits* weights, const TokenDraw* draws, int vocab) {
  find_cut(cuts, counts, weights, draws, vocab);
}
EXPORT_KERNEL(sampler_cut)

// --- scoring ----------------------------------------------------------------------------------------
// A block finds the best of what surely stays in its stretch, other than the likeliest token itself,
// and lists the candidates.

__device__ __forceinline__ void score(
    Best* bests,
    Top* candidates,
    int* listed,
    const float* logits,
    const Top* tops,
    const Cut* cuts,
    const TokenDraw* draws,
    int vocab) {
  SHARED_MEMORY(shared);
  double* floor = (double*)shared;
  Best* of_warps = (Best*)shared + 1;
  int* numbers = (int*)(of_warps + blockDim.x / WARP);  // of candidates, by thread
  const int row = blockIdx.y;
  const TokenDraw draw = draws[row];
  const Top top = row_top(tops, row, gridDim.x);
  if (draw.temperature == 0 || !is_drawable(top)) {
    return;
  }
  const Cut cut = cuts[row];
  if (threadIdx.x == 0) {
    *floor = gumbel(random_bits(draw.key, top.id));
  }
  __syncthreads();
  const double to_beat = *floor;
  Best best = nothing();
  int number = 0;
  each_token(logits, vocab, [&](int id, float logit) {
    const int bin = bin_of(logit, top);
    if (bin < cut.sure) {
      if (id != top.id) {
        consider(best, to_beat, logit, id, top, draw);
      }
    } else if (cut.lists(bin)) {
      number++;
    }
  });
  numbers[threadIdx.x] = number;
  best = block_best(best, of_warps);  // a barrier
  const int stretch = blockIdx.y * gridDim.x + blockIdx.x;
  if (threadIdx.x == 0) {
    bests[stretch] = best;
  }
  int place = 0;
  for (int t = 0; t < threadIdx.x; t++) {
    place += numbers[t];
  }
  if (threadIdx.x == blockDim.x - 1) {
    listed[stretch] = place + number;
  }
  if (number > 0) {
    each_token(logits, vocab, [&](int id, float logit) {
      const int bin = bin_of(logit, top);
      if (bin >= cut.sure && cut.lists(bin)) {
        if (place < MOST_OF_STRETCH) {
          candidates[(long long)stretch * MOST_OF_STRETCH + place] = {logit, id};
        }
        place++;
      }
    });
  }
}

extern "C" __global__ void __launch_bounds__(256) sampler_score(
    Best* bests,
    Top* candidates,
    int* listed,
    const float* logits,
    const Top* tops,
    const Cut* cuts,
    const TokenDraw* draws,
    int vocab) {
  score(bests, candidates, listed, logits, tops, cuts, draws, vocab);
}
EXPORT_KERNEL(sampler_score)

// --- picking ----------------------------------------------------------------------------------------
// One block of MOST_CANDIDATES threads per row ranks the candidates, each thread one, applies the cuts
// exactly, and picks the best of what stays.

// Candidates of a row, or more than MOST_CANDIDATES where a list overflows.
__device__ __forceinline__ int candidates_of(const int* listed, int row, int stretches) {
  int count = 0;
  for (int s = 0; s < stretches; s++) {
    const int of_stretch = listed[row * stretches + s];
    count += of_stretch > MOST_OF_STRETCH ? MOST_CANDIDATES + 1 : of_stretch;
    count = min(count, MOST_CANDIDATES + 1);
  }
  return count;
}

__device__ __forceinline__ void pick(
    int* ids,
    const Best* bests,
    const Top* candidates,
    const int* listed,
    const Top* tops,
    const Cut* cuts,
    const TokenDraw* draws,
    int stretches,
    int vocab) {
  SHARED_MEMORY(shared);
  Bits* weights = (Bits*)shared;                       // [MOST_CANDIDATES]
  Top* tokens = (Top*)(weights + MOST_CANDIDATES);     // [MOST_CANDIDATES]
  Best* of_warps = (Best*)(tokens + MOST_CANDIDATES);  // [warps]
  Bits* left = (Bits*)(of_warps + blockDim.x / WARP);  // weight of the candidates that top-k leaves
  int* doubts = (int*)(left + 1);
  const int row = blockIdx.x;
  const TokenDraw draw = draws[row];
  const Top top = row_top(tops, row, stretches);
  const bool greedy = draw.temperature == 0;
  const int count = greedy || !is_drawable(top) ? 0 : candidates_of(listed, row, stretches);
  if (greedy || !is_drawable(top) || count > MOST_CANDIDATES) {
    if (threadIdx.x == 0) {
      ids[row] = greedy && is_drawable(top) ? top.id : UNDECIDED;
    }
    return;
  }
  const Cut cut = cuts[row];
  int place = 0;
  for (int s = 0; s < stretches; s++) {
    const long long stretch = (long long)row * stretches + s;
    const int of_stretch = listed[stretch];
    if (threadIdx.x < of_stretch) {
      const Top token = candidates[stretch * MOST_OF_STRETCH + threadIdx.x];
      tokens[place + threadIdx.x] = token;
      weights[place + threadIdx.x] = draw.top_p < 1 ? weight_of(token.logit, top, draw) : 0;
    }
    place += of_stretch;
  }
  const int i = threadIdx.x;
  if (i == 0) {
    *left = 0;
    *doubts = 0;
  }
  __syncthreads();
  // Rank and weight of what ranks before, among all of the row. Candidates of bin kth alone rank behind
  // all others: theirs count from that bin.
  const Top token = i < count ? tokens[i] : Top{0.f, -1};
  const bool apart = i < count && cut.kth > cut.last && bin_of(token.logit, top) == cut.kth;
  int rank = apart ? cut.count_kth : cut.count_sure;
  Bits before = cut.weight_sure;
  for (int j = 0; j < count; j++) {
    const Top other = tokens[j];
    const bool ahead =
        other.logit > token.logit || (other.logit == token.logit && other.id < token.id);
    if (ahead && (!apart || bin_of(other.logit, top) == cut.kth)) {
      rank++;
      before += weights[j];
    }
  }
  const bool by_count = i < count && (draw.top_k == 0 || rank < draw.top_k);
  if (by_count && cut.kth < BINS && (apart || cut.kth <= cut.last)) {
    atomicAdd(left, weights[i]);
  }
  __syncthreads();
  bool stays = by_count && !apart;
  if (stays && draw.top_p < 1) {
    Bits all = cut.weight_all;
    if (cut.kth < BINS) {
      all = (cut.kth > cut.last ? cut.weight_kth : cut.weight_sure) + *left;
    }
    const double total = all / WEIGHT_ONE;
    const double missing = draw.top_p * total - before / WEIGHT_ONE;
    stays = missing > 0;
    if (fabs(missing) <= weight_error(total, vocab)) {
      *doubts = 1;
    }
  }
  Best best = nothing();
  if (i == 0) {
    best = {gumbel(random_bits(draw.key, top.id)), -INFINITY, top.id, 0};
  }
  if (stays && token.id != top.id) {
    consider(best, -INFINITY, token.logit, token.id, top, draw);
  }
  for (int s = i; s < stretches; s += blockDim.x) {
    best = better(best, bests[row * stretches + s]);
  }
  best = block_best(best, of_warps);
  if (i == 0) {
    ids[row] = *doubts || !(best.score - best.second > MARGIN) ? UNDECIDED : best.id;
  }
}

extern "C" __global__ void __launch_bounds__(MOST_CANDIDATES) sampler_pick(
    int* ids,
    const Best* bests,
    const Top* candidates,
    const int* listed,
    const Top* tops,
    const Cut* cuts,
    const TokenDraw* draws,
    int stretches,
    int vocab) {
  pick(ids, bests, candidates, listed, tops, cuts, draws, stretches, vocab);
}
EXPORT_KERNEL(sampler_pick)

// --- repetition penalty -----------------------------------------------------------------------------
// Logits of the tokens seen[starts[row]] to seen[starts[row + 1] - 1] of a row, all different, are
// divided by the row's penalty, negative ones multiplied (Keskar et al. 2019).

extern "C" __global__ void __launch_bounds__(256) sampler_penalise(
    float* logits, const int* seen, const int* starts, const float* penalties, int vocab) {
  const int row = blockIdx.y;
  const int i = starts[row] + blockIdx.x * blockDim.x + threadIdx.x;
  if (i < starts[row + 1]) {
    float* logit = logits + (long long)row * vocab + seen[i];
    *logit = *logit < 0 ? *logit * penalties[row] : *logit / penalties[row];
  }
}
EXPORT_KERNEL(sampler_penalise)
