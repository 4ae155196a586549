// Signatures of webhooks as the Standard Webhooks scheme has them: HMAC-SHA256 over "ID.TIMESTAMP.BODY", in base64 after "v1,".
// A set of secrets is read once and never changed. Threads: any, after that.
#ifndef YD_DAEMON_SIGNATURE_H
#define YD_DAEMON_SIGNATURE_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

#define YD_SIGNATURES_MAX 512

typedef struct yd_secrets yd_secrets;

// Read secrets from text, one a line: "whsec_BASE64" signs for everybody without one of their own, "OWNER whsec_BASE64" for one owner.
// Several for one owner all sign, so that a receiver can change over. Empty lines and those after '#' do not count. A secret has 24 to 64
// bytes. YD_E_CONFIG naming webhook_secret_file and the line, never the secret; YD_E_NOMEM.
int yd_secrets_parse(const char *text, size_t len, yd_secrets **out, yd_err *err);
void yd_secrets_free(yd_secrets *s); // NULL is fine

// Is there one that signs for this owner?
int yd_secrets_have(const yd_secrets *s, const char *owner);
// "v1,BASE64", of several secrets separated by spaces.
void yd_secrets_sign(const yd_secrets *s, const char *owner, const char *id, int64_t timestamp_s, const void *body, size_t len,
                     char dst[YD_SIGNATURES_MAX]);

#endif
