/* A library with one operator for the tests: zoo::SoftClip(x) = x / (1 + |x|), float32.
 *
 * The wheel of onnxruntime ships no headers. What is declared here is the part of its C API that
 * one operator needs; the API is a table of functions that only ever grows, so places in it stay.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef void *Status;  /* NULL is success */
typedef struct {
  const void *const *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} ApiBase;

enum { VERSION = 12, FLOAT = 1, REQUIRED = 0 };
enum {  /* places in the table */
  CREATE_DOMAIN = 26, DOMAIN_ADD = 27, ADD_DOMAIN = 28, DATA = 51, RANK = 61, DIMENSIONS = 62,
  SHAPE_OF = 65, INPUT = 90, OUTPUT = 91, RELEASE_SHAPE = 99
};

struct Operator {
  uint32_t version;
  void *(*create)(const struct Operator *, const void *const *api, const void *info);
  const char *(*name)(const struct Operator *);
  const char *(*provider)(const struct Operator *);
  int (*input_type)(const struct Operator *, size_t);
  size_t (*inputs)(const struct Operator *);
  int (*output_type)(const struct Operator *, size_t);
  size_t (*outputs)(const struct Operator *);
  void (*compute)(void *kernel, void *context);
  void (*destroy)(void *kernel);
  int (*kind)(const struct Operator *, size_t);  /* since version 8, of inputs, then of outputs */
  int (*output_kind)(const struct Operator *, size_t);
  void *later[32];  /* room for what newer versions of the struct have */
};

static void *create(const struct Operator *op, const void *const *api, const void *info) {
  (void)op, (void)info;
  return (void *)api;
}
static const char *name(const struct Operator *op) { return (void)op, OPERATOR; }
static const char *provider(const struct Operator *op) { return (void)op, NULL; }
static int type(const struct Operator *op, size_t index) { return (void)op, (void)index, FLOAT; }
static size_t one(const struct Operator *op) { return (void)op, 1; }
static int kind(const struct Operator *op, size_t index) {
  return (void)op, (void)index, REQUIRED;
}
static void destroy(void *kernel) { (void)kernel; }

static void compute(void *kernel, void *context) {
  void *const *api = kernel;
  const void *x, *shape;
  void *y;
  float *from, *to;
  size_t rank, count = 1;
  int64_t dims[8];
  ((Status(*)(void *, size_t, const void **))api[INPUT])(context, 0, &x);
  ((Status(*)(const void *, const void **))api[SHAPE_OF])(x, &shape);
  ((Status(*)(const void *, size_t *))api[RANK])(shape, &rank);
  ((Status(*)(const void *, int64_t *, size_t))api[DIMENSIONS])(shape, dims, rank);
  ((void (*)(const void *))api[RELEASE_SHAPE])(shape);
  ((Status(*)(void *, size_t, const int64_t *, size_t, void **))api[OUTPUT])(context, 0, dims,
                                                                           rank, &y);
  ((Status(*)(const void *, void **))api[DATA])(x, (void **)&from);
  ((Status(*)(void *, void **))api[DATA])(y, (void **)&to);
  for (size_t i = 0; i < rank; i++) count *= (size_t)dims[i];
  for (size_t i = 0; i < count; i++) to[i] = from[i] / (1 + fabsf(from[i]));
}

static const struct Operator OP = {VERSION, create, name, provider, type,
                                   one, type, one, compute, destroy, kind, kind, {0}};

Status RegisterCustomOps(void *options, const ApiBase *base) {
  const void *const *api = base->get_api(VERSION);
  void *domain = NULL;
  Status status = ((Status(*)(const char *, void **))api[CREATE_DOMAIN])("zoo", &domain);
  if (!status) status = ((Status(*)(void *, const void *))api[DOMAIN_ADD])(domain, &OP);
  if (!status) status = ((Status(*)(void *, void *))api[ADD_DOMAIN])(options, domain);
  return status;
}
