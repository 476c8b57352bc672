use Test::More; use Apache::Test ();
my $v=Apache::Test::vars();
ok 1; diag "$v->{servername}:$v->{port}"; 
use LWP::Simple; diag get("http://$v->{servername}:$v->{port}/slotmem?identity;who;create+name=none+size=8+num=4+as=x;grab+name=x;doall+as=x+each=grab,as=x;stress+as=x+rounds=100000");
done_testing;
