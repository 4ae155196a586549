// The launches of gpu/kernels.h under other names, for the file that puts itself between them and their callers (kernels.c).
#ifndef TESTS_FAKE_GPU_NAMES_ON_H
#define TESTS_FAKE_GPU_NAMES_ON_H

#define yd_gpu_copy          host_yd_gpu_copy
#define yd_gpu_axpy          host_yd_gpu_axpy
#define yd_gpu_conv_end      host_yd_gpu_conv_end
#define yd_gpu_not_finite    host_yd_gpu_not_finite
#define yd_gpu_linear        host_yd_gpu_linear
#define yd_gpu_linear_bwd    host_yd_gpu_linear_bwd
#define yd_gpu_silu          host_yd_gpu_silu
#define yd_gpu_mish          host_yd_gpu_mish
#define yd_gpu_silu_bwd      host_yd_gpu_silu_bwd
#define yd_gpu_embed         host_yd_gpu_embed
#define yd_gpu_gnorm         host_yd_gpu_gnorm
#define yd_gpu_gnorm_bwd     host_yd_gpu_gnorm_bwd
#define yd_gpu_bias_grad     host_yd_gpu_bias_grad
#define yd_gpu_concat        host_yd_gpu_concat
#define yd_gpu_split         host_yd_gpu_split
#define yd_gpu_upsample      host_yd_gpu_upsample
#define yd_gpu_upsample_bwd  host_yd_gpu_upsample_bwd
#define yd_gpu_unshuffle     host_yd_gpu_unshuffle
#define yd_gpu_shuffle       host_yd_gpu_shuffle
#define yd_gpu_reflect       host_yd_gpu_reflect
#define yd_gpu_filter_pack   host_yd_gpu_filter_pack
#define yd_gpu_filter_unpack host_yd_gpu_filter_unpack
#define yd_gpu_softmax       host_yd_gpu_softmax
#define yd_gpu_softmax_bwd   host_yd_gpu_softmax_bwd
#define yd_gpu_loss          host_yd_gpu_loss
#define yd_gpu_square_sums   host_yd_gpu_square_sums
#define yd_gpu_adamw         host_yd_gpu_adamw
#define yd_gpu_im2col        host_yd_gpu_im2col
#define yd_gpu_col2im        host_yd_gpu_col2im

#endif
