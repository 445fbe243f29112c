//! What `influxd backup -portable` of InfluxDB 1 and `influx backup` of InfluxDB 2 write, as a tar: a file per shard, the
//! metadata, and the manifest that names them all, which is written last. A shard is a tar in a gzip, so its bytes have a
//! sum, and an end; so has the metadata of InfluxDB 2.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::write::GzDecoder;
use serde_json::Value;

use super::tar_scan::{Members, TarScan, Unseen};

/// The list of a million shards would be shorter.
const MANIFEST_MAX: u64 = 256 << 20;
const MANIFEST: &str = ".manifest";
const SHARD: &str = ".tar.gz";
const PACKED: &str = ".gz";

/// A file while it is unpacked.
struct Plain {
    size: u64,
    /// Of a shard.
    tar: Option<TarScan<Unseen>>,
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.size += bytes.len() as u64;
        if let Some(tar) = &mut self.tar {
            tar.feed(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Current {
    Manifest(Vec<u8>),
    Packed(Box<GzDecoder<Plain>>),
    Failed(String),
    Other,
}

/// What was seen of a member.
struct Seen {
    size: u64,
    /// What it has unpacked, where it was.
    unpacked: Option<u64>,
}

/// The members of a backup.
pub(super) struct Backup {
    unpacks: bool,
    name: String,
    size: u64,
    current: Current,
    seen: BTreeMap<String, Seen>,
    last: String,
    manifest: Option<Vec<u8>>,
    wrong: Option<String>,
}

impl Backup {
    /// `unpacks`: whether shards are read to their own ends too.
    pub(super) fn scan(unpacks: bool) -> TarScan<Self> {
        TarScan::new(Self {
            unpacks,
            name: String::new(),
            size: 0,
            current: Current::Other,
            seen: BTreeMap::new(),
            last: String::new(),
            manifest: None,
            wrong: None,
        })
    }

    /// Why it is not complete; else its manifest, and the number of its shards.
    pub(super) fn judge(self) -> Result<(Value, usize), String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let manifest = self.manifest.ok_or("its manifest is missing")?;
        if !self.last.ends_with(MANIFEST) {
            return Err(format!("{} is behind its manifest", self.last));
        }
        let manifest: Value =
            serde_json::from_slice(&manifest).map_err(|error| format!("its manifest can't be read: {error}"))?;
        let mut files = Vec::new();
        named(&manifest, &mut files);
        if files.is_empty() {
            return Err("its manifest names no file".to_owned());
        }
        let mut shards = 0;
        for (name, size) in files {
            let Some(seen) = self.seen.get(&name) else { return Err(format!("{name} is missing")) };
            shards += usize::from(name.ends_with(SHARD));
            // Versions differ in which size they tell.
            if let (Some(unpacked), Some(size)) = (seen.unpacked, size)
                && unpacked != size
                && seen.size != size
            {
                return Err(format!("{name} has {unpacked} bytes, not {size}"));
            }
        }
        Ok((manifest, shards))
    }
}

/// Every file that a manifest names, and the size that it tells of it.
fn named(value: &Value, files: &mut Vec<(String, Option<u64>)>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("fileName").and_then(Value::as_str) {
                files.push((name.to_owned(), fields.get("size").and_then(Value::as_u64)));
            }
            fields.values().for_each(|value| named(value, files));
        }
        Value::Array(all) => all.iter().for_each(|value| named(value, files)),
        _ => {}
    }
}

impl Members for Backup {
    fn begin(&mut self, name: &str, size: u64) {
        (self.name, self.size) = (name.to_owned(), size);
        self.current = if name.ends_with(MANIFEST) {
            match size {
                ..=MANIFEST_MAX => Current::Manifest(Vec::new()),
                _ => Current::Failed("it is too long".to_owned()),
            }
        } else if self.unpacks && name.ends_with(PACKED) {
            let plain = Plain { size: 0, tar: name.ends_with(SHARD).then(|| TarScan::new(Unseen)) };
            Current::Packed(Box::new(GzDecoder::new(plain)))
        } else {
            Current::Other
        };
    }

    fn data(&mut self, bytes: &[u8]) {
        match &mut self.current {
            Current::Manifest(text) => text.extend_from_slice(bytes),
            Current::Packed(unpacked) => {
                if let Err(error) = unpacked.write_all(bytes) {
                    self.current = Current::Failed(error.to_string());
                }
            }
            Current::Failed(_) | Current::Other => {}
        }
    }

    fn end(&mut self) {
        let mut unpacked = None;
        let ended = match std::mem::replace(&mut self.current, Current::Other) {
            Current::Manifest(text) => {
                self.manifest = Some(text);
                Ok(())
            }
            Current::Packed(shard) => shard.finish().map_err(|error| error.to_string()).and_then(|plain| {
                unpacked = Some(plain.size);
                plain.tar.map_or(Ok(()), |tar| tar.finish().map(drop).map_err(str::to_owned))
            }),
            Current::Failed(why) => Err(why),
            Current::Other => Ok(()),
        };
        if let Err(why) = ended {
            self.wrong.get_or_insert(format!("{}: {why}", self.name));
        }
        self.seen.insert(self.name.clone(), Seen { size: self.size, unpacked });
        self.last.clone_from(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::tar_scan::tests::tar;
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn judged(files: &[(&str, &[u8])], unpacks: bool) -> Result<usize, String> {
        let mut scan = Backup::scan(unpacks);
        tar(files).chunks(1000).for_each(|chunk| scan.feed(chunk));
        scan.finish()?.judge().map(|(_, shards)| shards)
    }

    fn manifest(size: usize) -> Vec<u8> {
        format!(
            r#"{{"meta": {{"fileName": "t.meta", "size": 4}}, "limited": false, "files": [
                {{"database": "shop", "policy": "autogen", "shardID": 1, "fileName": "t.s1.tar.gz", "size": {size}}}]}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_backup_is_whole_where_its_manifest_is_last_and_each_shard_has_its_end() {
        let shard = tar(&[("shop/autogen/1/1.tsm", &[3; 9000])]);
        let (good, told) = (packed(&shard), manifest(shard.len()));
        let files =
            |shard: &'_ [u8]| judged(&[("t.meta", b"meta"), ("t.s1.tar.gz", shard), ("t.manifest", &told)], true);
        assert_eq!(files(&good), Ok(1));
        // The connection ended in a shard, and the program packed what it had.
        for end in [0, 512, 5000, shard.len() - 1024] {
            assert!(files(&packed(&shard[..end])).is_err(), "{end}");
        }
        for end in 0..good.len() {
            assert!(files(&good[..end]).is_err(), "{end}");
        }
        let longer = tar(&[("shop/autogen/1/1.tsm", &[3; 9000]), ("more", b"x")]);
        assert!(files(&packed(&longer)).unwrap_err().contains("not"), "another size than the manifest tells");
        let empty = br#"{"meta": {"fileName": "t.meta", "size": 4}, "files": []}"#;
        assert_eq!(judged(&[("t.meta", b"meta"), ("t.manifest", empty)], true), Ok(0));
    }

    #[test]
    fn the_metadata_of_influxdb_2_has_its_ends_too() {
        let (kv, shard) = (packed(&[1; 5000]), packed(&tar(&[("1.tsm", &[3; 900])])));
        let told = |kv: &[u8], shard: &[u8]| {
            format!(
                r#"{{"manifestVersion": 2, "kv": {{"fileName": "t.bolt.gz", "size": {}, "compression": 1}}, "buckets": [
                    {{"organizationName": "shop", "bucketName": "load", "retentionPolicies": [{{"shardGroups": [{{"shards":
                    [{{"id": 1, "fileName": "t.1.tar.gz", "size": {}, "compression": 1}}]}}]}}]}}]}}"#,
                kv.len(),
                shard.len()
            )
        };
        let files = |kv: &[u8], shard: &[u8]| {
            let told = told(kv, shard);
            judged(&[("t.bolt.gz", kv), ("t.1.tar.gz", shard), ("t.manifest", told.as_bytes())], true)
        };
        assert_eq!(files(&kv, &shard), Ok(1));
        for end in 0..kv.len() {
            assert!(files(&kv[..end], &shard).is_err(), "{end}");
        }
        for end in 0..shard.len() {
            assert!(files(&kv, &shard[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn what_is_missing_or_in_another_order_is_told() {
        let shard = packed(&tar(&[("x", b"y")]));
        let told = manifest(shard.len());
        let meta: (&str, &[u8]) = ("t.meta", b"meta");
        let shard: (&str, &[u8]) = ("t.s1.tar.gz", &shard);
        let manifest: (&str, &[u8]) = ("t.manifest", &told);
        for (files, says) in [
            (&[meta, shard][..], "manifest is missing"),
            (&[meta, manifest], "t.s1.tar.gz is missing"),
            (&[shard, manifest], "t.meta is missing"),
            (&[meta, manifest, shard], "behind its manifest"),
            (&[meta, shard, ("t.manifest", &told[..told.len() - 1])], "can't be read"),
            (&[("t.manifest", b"{}")], "names no file"),
        ] {
            for unpacks in [true, false] {
                let why = judged(files, unpacks).unwrap_err();
                assert!(why.contains(says), "{why}");
            }
        }
    }
}
