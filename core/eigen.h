// Eigenvalues and eigenvectors of a symmetric matrix, in double.
//
// Householder reflections to tridiagonal form, then implicitly shifted QR steps (Golub & Van Loan, Matrix Computations, 8.3).
// Reentrant; single-threaded; the same bits for the same matrix.
#ifndef YD_CORE_EIGEN_H
#define YD_CORE_EIGEN_H

#include "core/err.h"

// a: n*n doubles, symmetric (the part right of the diagonal is read), n from 1; destroyed. values: n, in no order. vectors, unless NULL:
// n*n; row i belongs to values[i], rows are orthonormal. YD_E_NUMERIC when it does not converge (numbers that are not finite); YD_E_NOMEM.
// Errors in the values are about n * 1e-16 of the largest.
int yd_eigen_symmetric(double *a, int n, double *values, double *vectors, yd_err *err);

#endif
