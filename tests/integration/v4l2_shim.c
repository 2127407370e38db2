/* A V4L2 camera without hardware: preloaded, it answers for the file $SHIM_DEVICE.
 *
 * It gives YUYV (or, asked for MJPG, what $SHIM_JPEG holds) at up to 640 x 480 (or 1280 x 720 as
 * MJPG), a picture every 20 ms, stamped by the monotonic clock. After $SHIM_FRAMES pictures the
 * device is gone. $SHIM_BUSY=1: the format cannot be set, since another program is streaming.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, BYTES = 1280 * 720 * 2 };

static int camera = -1, frames, queued[BUFFERS], first, count, lost;
static unsigned width = 640, height = 480, format = V4L2_PIX_FMT_YUYV;
static char *memory;

static int env(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int is_ours(const char *path) {
    const char *device = getenv("SHIM_DEVICE");
    return device && strcmp(path, device) == 0;
}

static int open_camera(void) {
    if (lost) return fail(ENODEV);
    camera = memfd_create("camera", 0);
    if (ftruncate(camera, (off_t)BUFFERS * BYTES)) return -1;
    memory = mmap(NULL, (size_t)BUFFERS * BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, camera, 0);
    first = count = 0;
    return camera;
}

#define OPEN(NAME)                                                        \
    int NAME(const char *path, int flags, ...) {                          \
        va_list more;                                                     \
        va_start(more, flags);                                            \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
        va_end(more);                                                     \
        if (is_ours(path)) return open_camera();                          \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME);    \
        return real(path, flags, mode);                                   \
    }
OPEN(open)
OPEN(open64)

static unsigned draw(int index) {
    char *picture = memory + (size_t)index * BYTES;
    if (format == V4L2_PIX_FMT_MJPEG) {
        int file = open(getenv("SHIM_JPEG"), O_RDONLY);
        ssize_t bytes = read(file, picture, BYTES);
        close(file);
        return (unsigned)bytes;
    }
    for (unsigned i = 0; i < width * height * 2; i += 4) { /* red, darker with every picture */
        picture[i] = picture[i + 2] = (char)(81 - frames);
        picture[i + 1] = 90;
        picture[i + 3] = (char)240;
    }
    return width * height * 2;
}

static int dequeue(struct v4l2_buffer *buffer) {
    if (lost || frames == env("SHIM_FRAMES", 1 << 30)) {
        lost = 1;
        return fail(ENODEV);
    }
    if (!count) return fail(EAGAIN);
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buffer->index = (unsigned)queued[first];
    first = (first + 1) % BUFFERS;
    count--;
    buffer->length = BYTES;
    buffer->bytesused = draw((int)buffer->index);
    buffer->timestamp = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    frames++;
    return 0;
}

static int set_format(struct v4l2_format *wanted, int keep) {
    struct v4l2_pix_format *pix = &wanted->fmt.pix;
    if (keep && env("SHIM_BUSY", 0)) return fail(EBUSY);
    if (pix->pixelformat != V4L2_PIX_FMT_YUYV && pix->pixelformat != V4L2_PIX_FMT_MJPEG)
        return fail(EINVAL);
    int large = pix->pixelformat == V4L2_PIX_FMT_MJPEG && pix->width > 640;
    pix->width = large ? 1280 : 640;
    pix->height = large ? 720 : 480;
    pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = pix->width * 2;
    pix->sizeimage = BYTES;
    if (keep) width = pix->width, height = pix->height, format = pix->pixelformat;
    return 0;
}

static int answer(unsigned long request, void *value) {
    struct v4l2_buffer *buffer = value;
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *able = value;
        memset(able, 0, sizeof *able);
        strcpy((char *)able->driver, "uvcvideo");
        strcpy((char *)able->card, "Shim Camera");
        able->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        able->capabilities = able->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_FMT: {
        struct v4l2_format *got = value;
        got->fmt.pix.width = width, got->fmt.pix.height = height, got->fmt.pix.pixelformat = format;
        return 0;
    }
    case VIDIOC_TRY_FMT: return set_format(value, 0);
    case VIDIOC_S_FMT: return set_format(value, 1);
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = value;
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        return 0;
    }
    case VIDIOC_QUERYBUF:
        buffer->length = BYTES;
        buffer->m.offset = buffer->index * BYTES;
        return 0;
    case VIDIOC_QBUF:
        queued[(first + count++) % BUFFERS] = (int)buffer->index;
        return 0;
    case VIDIOC_DQBUF: return dequeue(buffer);
    case VIDIOC_STREAMON: return 0;
    case VIDIOC_STREAMOFF: count = 0; return 0;
    default: return fail(ENOTTY);
    }
}

int ioctl(int descriptor, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *value = va_arg(more, void *);
    va_end(more);
    if (descriptor == camera && camera >= 0) return answer(request, value);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(descriptor, request, value);
}
