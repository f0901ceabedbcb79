<?php
// ruleid: php-command-injection
system("ping " . $_GET["host"]);
// ok: php-command-injection
system("ping " . escapeshellarg($_GET["host"]));

$name = $_POST["name"];
// ruleid: php-sql-injection
mysqli_query($db, "SELECT * FROM users WHERE name = '" . $name . "'");
// ok: php-sql-injection
mysqli_query($db, "SELECT * FROM users WHERE id = " . intval($name));

// ruleid: php-unserialize
unserialize($_COOKIE["cart"]);
// ok: php-unserialize
unserialize($_COOKIE["cart"], ['allowed_classes' => false]);

// ruleid: php-reflected-xss
echo "Hello " . $_GET["name"];
// ok: php-reflected-xss
echo "Hello " . htmlspecialchars($_GET["name"]);
