/* A stand-in for libedgetpu: takes every edgetpu-custom-op and answers with a ramp, 0 1 2 ... 255 0 1 ...
 *
 * What of TensorFlow Lite's C interface is used is declared here, after tensorflow/lite/core/c/common.h.
 * $STUB_LOG: a file to which a line is added for every call.
 * $STUB_FAIL: create (with a reason), silent (without one), prepare.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { OK = 0, ERROR = 1 } Status;
typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  int type;
  uint8_t *data;
  IntArray *dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct { IntArray *inputs, *outputs; /* more follows */ } Node;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  Status (*prepare)(Context *, Node *);
  Status (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *more[4];
} Registration;

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  Status (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *, ...);
  Status (*AddTensors)(Context *, int, int *);
  Status (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  Status (*ReplaceNodes)(Context *, Registration, const IntArray *, Delegate *);
  /* more follows */
};

struct Delegate {
  void *data;
  Status (*Prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *opaque_builder;
};

static void say(const char *format, ...) {
  const char *path = getenv("STUB_LOG");
  FILE *file = path ? fopen(path, "a") : NULL;
  if (!file) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fclose(file);
}

static bool fails(const char *when) {
  const char *chosen = getenv("STUB_FAIL");
  return chosen && strcmp(chosen, when) == 0;
}

static Status nothing(Context *context, Node *node) { return OK; }

static Status invoke(Context *context, Node *node) {
  say("invoke\n");
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor *output = &context->tensors[node->outputs->data[i]];
    for (size_t at = 0; at < output->bytes; at++) output->data[at] = (uint8_t)at;
  }
  return OK;
}

static Status prepare(Context *context, Delegate *delegate) {
  say("prepare\n");
  if (fails("prepare")) {
    context->ReportError(context, "the stub takes no model");
    return ERROR;
  }
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan) != OK) return ERROR;
  IntArray *taken = malloc(sizeof(IntArray) + plan->size * sizeof(int));
  taken->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *kind;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &kind) != OK) return ERROR;
    if (kind->custom_name && strcmp(kind->custom_name, "edgetpu-custom-op") == 0)
      taken->data[taken->size++] = plan->data[i];
  }
  Registration own = {.prepare = nothing, .invoke = invoke, .custom_name = "stub", .version = 1};
  Status status = context->ReplaceNodes(context, own, taken, delegate);
  free(taken);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                        void (*report)(const char *)) {
  say("create");
  for (size_t i = 0; i < count; i++) say(" %s=%s", keys[i], values[i]);
  say("\n");
  if (fails("create")) {
    report("no Edge TPU on this bus");
    return NULL;
  }
  if (fails("silent")) return NULL;
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->Prepare = prepare;
  delegate->flags = 1; /* kTfLiteDelegateFlagsAllowDynamicTensors, as libedgetpu sets it */
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  say("destroy %s\n", delegate ? "it" : "nothing");
  free(delegate);
}
