// How a batch lies in packed tensors and what each of its heads does: the device's image of
// BatchLayout and HeadPlan. Arrays of plain structs, so that a captured graph replays under another
// mask.
#pragma once
#include "device.cuh"

// Row r of a batch owns tokens [token_start, token_start + length); its first token has position
// past; key and value of its position p are entry key_start + p.
struct BatchRow {
  int token_start;
  int length;
  int past;
  int key_start;
};

// HeadPlan.Mode, by ordinal.
enum HeadMode { HEAD_ATTEND = 0, HEAD_UNIFORM = 1, HEAD_MEAN = 2, HEAD_SKIP = 3 };

// One (row, head), [B,H]. A query at position i sees key j <= i when j > i - window of the layer, and
// j < sink or j > i - window here; without a local window it is INT_MAX.
struct PlannedHead {
  int mode;
  float gate;
  int sink;
  int window;
};

// A run of neighbouring tokens of one row that a block works on: from token first of row.
struct TokenTile {
  int row;
  int first;
};
