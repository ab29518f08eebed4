// One kernel file, in a namespace of its own: on a device each is a module of its own.
#include "device.cuh"

namespace KERNEL_SPACE {
#include KERNEL_FILE
}
