CREATE ROLE app LOGIN PASSWORD 'app-password'; CREATE ROLE "odd ""reader"; GRANT "odd ""reader" TO app;
CREATE DATABASE shop OWNER app;
\c shop
CREATE EXTENSION citext;
CREATE SCHEMA "odd ""s";
CREATE TABLE "odd ""s"."t'x" (a int primary key, b text, c citext);
INSERT INTO "odd ""s"."t'x" SELECT g, 'row '||g, 'C' FROM generate_series(1,5000) g;
CREATE TABLE big (id bigserial primary key, data bytea);
INSERT INTO big (data) SELECT decode(md5(g::text),'hex') FROM generate_series(1,20000) g;
CREATE TABLE debit (id bigint primary key, amount int); CREATE TABLE credit (id bigint primary key, amount int);
CREATE TABLE zlast (a int);
CREATE VIEW v AS SELECT id FROM big WHERE id > 5; CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM big;
CREATE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN a + 1; END';
CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION t();
GRANT SELECT ON big TO "odd ""reader"; ALTER TABLE big OWNER TO app;
SELECT lo_create(12345);
