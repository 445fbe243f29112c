use super::*;

const DUMP: &str = r"/*M!999999\- enable the sandbox mode */
-- MariaDB dump 10.19
--
-- CHANGE MASTER TO MASTER_LOG_FILE='log.000007', MASTER_LOG_POS=385;
/*!40101 SET NAMES utf8mb4 */;

--
-- Current Database: `sh``op`
--

CREATE DATABASE /*!32312 IF NOT EXISTS*/ `sh``op` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;

USE `sh``op`;
DROP TABLE IF EXISTS `a`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
CREATE TABLE `a` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `t` varchar(10) DEFAULT '); INSERT INTO `x` VALUES (1)',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT CHARSET=utf8mb4;
CREATE TABLE `empty` (`id` int);
INSERT INTO `a` VALUES
(1,'it\'s (one); row'),
(2,'a ''quoted'' \\'),
(3,NULL);
INSERT INTO `a` (`id`, `t`) VALUES (4,'-- no comment
'),(5,0x00FF);
/*!50001 CREATE VIEW `v` AS SELECT
 1 AS `id` */;
/*!50003 SET sql_mode              = 'STRICT' */ ;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER tr BEFORE INSERT ON a FOR EACH ROW BEGIN
  -- don't be fooled; INSERT INTO `a` VALUES (9);
  SET @x = 1; # nor (here
END */;;
CREATE DEFINER=`root`@`localhost` PROCEDURE `p`()
BEGIN
  SELECT 1; /* not ( this */ SELECT 2;
END ;;
/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`localhost`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO SELECT 1 */ ;;
DELIMITER ;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select `a`.`id` AS `id` from `a` */;

-- Dump completed on 2026-11-21 18:00:00
";

fn scanned(text: &str, step: usize) -> Scanned {
    let mut scan = Scan::default();
    text.as_bytes().chunks(step).for_each(|chunk| scan.feed(chunk));
    scan.finish()
}

#[test]
fn rows_and_definitions_are_counted_whatever_strings_and_comments_say() {
    let all = scanned(DUMP, 1 << 20);
    assert!(all.is_complete);
    assert_eq!(all.position.as_deref(), Some("log.000007:385"));
    let shop = &all.databases["sh`op"];
    let rows: Vec<(&str, u64)> = shop.tables.iter().map(|(name, table)| (name.as_str(), table.rows)).collect();
    assert_eq!(rows, [("a", 5), ("empty", 0)]);
    let definitions: Vec<String> = shop.definitions.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    assert_eq!(definitions, ["1 events", "1 routines", "2 tables", "1 triggers", "1 views"]);
    assert_eq!(scanned(DUMP, 1), all, "wherever it is cut");
}

#[test]
fn what_is_taken_at_once_is_counted_as_byte_by_byte() {
    let rows = "INSERT INTO `a` VALUES (0xAbCM!,'x',1.5e7,-- )\n2,'it\\'s\\\\',/*!1*/9/* ,'( */8,M/*,*/'''',\"q'\",`c\\`,_utf8'y');\n";
    let text = DUMP.replace("INSERT INTO `a` VALUES\n", &format!("{rows}{rows}INSERT INTO `a` VALUES\n"));
    for delimiter in [";", "x", "1,", "''", "//", "$$"] {
        let text = text.replace("DELIMITER ;;", &format!("DELIMITER {delimiter}")) + rows + DUMP;
        let mut slow = Scan::default();
        text.bytes().for_each(|byte| slow.byte(byte));
        let slow = slow.finish();
        assert!(slow.databases["sh`op"].rows() > 4, "{delimiter}");
        for step in [1, 2, 3, 7, 61, 1 << 20] {
            assert_eq!(scanned(&text, step), slow, "{delimiter} {step}");
        }
    }
}

#[test]
fn a_dump_that_ends_early_is_not_complete_wherever_it_ends() {
    for end in (0..DUMP.len() - 45).step_by(7) {
        assert!(!scanned(&DUMP[..end], 4096).is_complete, "{end}");
    }
    // The words alone prove nothing within a string or a statement.
    assert!(!scanned("INSERT INTO `a` VALUES ('\n-- Dump completed\n", 10).is_complete);
    assert!(!scanned("CREATE TABLE x (\n-- Dump completed\n", 10).is_complete);
}

#[test]
fn a_change_of_one_character_shows_and_an_order_or_a_counter_does_not() {
    let was = scanned(DUMP, 4096);
    let is = scanned(&DUMP.replace("(3,NULL)", "(3,'')"), 4096);
    assert_eq!(was.databases["sh`op"].differences("shop", &is.databases["sh`op"]).len(), 1);
    let other = scanned(&DUMP.replace("SELECT 2;", "SELECT 3;"), 4096);
    assert!(was.databases["sh`op"].differences("shop", &other.databases["sh`op"])[0].contains("definitions"));
    let same = DUMP.replace("AUTO_INCREMENT=17", "AUTO_INCREMENT=99").replace(
        "(1,'it\\'s (one); row'),\n(2,'a ''quoted'' \\\\')",
        "(2,'a ''quoted'' \\\\'),\n(1,'it\\'s (one); row')",
    );
    assert_ne!(same, DUMP);
    assert_eq!(scanned(&same, 4096).databases, was.databases);
}
