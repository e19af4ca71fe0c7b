const unsigned char blob[] = {
#embed "blob.bin"
};
