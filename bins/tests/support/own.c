/* What a service adds to SQLite: a collation in an order of its own, a function, and a tokenizer for full text. */
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1
#include <ctype.h>
#include <string.h>

static int backwards(void *unused, int a_len, const void *a, int b_len, const void *b) {
  int order = memcmp(b, a, a_len < b_len ? a_len : b_len);
  return order ? order : b_len - a_len;
}

static void norm(sqlite3_context *context, int count, sqlite3_value **values) {
  const char *text = (const char *)sqlite3_value_text(values[0]);
  char *upper = text ? sqlite3_mprintf("%s", text) : 0;
  for (char *at = upper; at && *at; at++) *at = (char)toupper((unsigned char)*at);
  sqlite3_result_text(context, upper, -1, sqlite3_free);
}

int sqlite3_own_init(sqlite3 *db, char **error, const sqlite3_api_routines *api) {
  SQLITE_EXTENSION_INIT2(api);
  fts5_api *fts = 0;
  fts5_tokenizer words;
  void *context = 0;
  sqlite3_stmt *statement = 0;
  sqlite3_create_collation(db, "icu_root", SQLITE_UTF8, 0, backwards);
  sqlite3_create_function(db, "norm", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, 0, norm, 0, 0);
  sqlite3_prepare_v2(db, "SELECT fts5(?1)", -1, &statement, 0);
  sqlite3_bind_pointer(statement, 1, &fts, "fts5_api_ptr", 0);
  sqlite3_step(statement);
  sqlite3_finalize(statement);
  if (!fts || fts->xFindTokenizer(fts, "unicode61", &context, &words) != SQLITE_OK) return SQLITE_ERROR;
  return fts->xCreateTokenizer(fts, "collating", context, &words, 0);
}
